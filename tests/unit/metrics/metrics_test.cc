#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "metrics/board.h"
#include "metrics/reasons.h"
#include "metrics/session_list.h"

namespace ringmain {
namespace {

constexpr std::array<uint64_t, 3> kBounds = {10, 100, 1000};

TEST(DurationHistogram, BoundsAreInclusive) {
  DurationHistogram<kBounds> histogram;
  for (int ns : {-5, 0, 10, 11, 100, 1000, 1001, 1000000}) histogram.Observe(Duration(ns));
  EXPECT_EQ(histogram.bucket(0), 3u);
  EXPECT_EQ(histogram.bucket(1), 2u);
  EXPECT_EQ(histogram.bucket(2), 1u);
  EXPECT_EQ(histogram.bucket(3), 2u);
  EXPECT_EQ(histogram.sum(), 0u + 0 + 10 + 11 + 100 + 1000 + 1001 + 1000000);
}

TEST(PerWorker, CellsDoNotShareCacheLines) {
  PerWorker<Counter> cells(2);
  EXPECT_GE(reinterpret_cast<char*>(&cells[1]) - reinterpret_cast<char*>(&cells[0]), 64);
}

TEST(PerWorker, GrowsWithoutMovingAnything) {
  for (size_t first : {1, 2, 3}) {
    PerWorker<Counter> cells(first);
    std::vector<Counter*> before;
    for (size_t workers = first; workers <= 40; workers += workers % 3 + 1) {
      cells.Grow(workers);
      ASSERT_EQ(cells.size(), workers);
      for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(&cells[i], before[i]);
      while (before.size() < workers) {
        before.push_back(&cells[before.size()]);
        EXPECT_EQ(before.back()->value(), 0u);
        before.back()->Add(before.size());
      }
    }
    for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(cells[i].value(), i + 1);
    cells.Grow(1);
    EXPECT_EQ(cells.size(), before.size()) << "it never shrinks";
  }
}

TEST(Reasons, NamesAreDistinct) {
  EXPECT_EQ(std::set(kCloseReasonNames.begin(), kCloseReasonNames.end()).size(), kCloseReasons);
  EXPECT_EQ(ToString(CloseReason::kClientClosed), "client_closed");
  EXPECT_EQ(ToString(CloseReason::kNoFiles), "no_files");
  EXPECT_EQ(ToString(CloseReason::kError), "error");
}

TEST(Reasons, WhatSessionsDoHasItsWord) {
  EXPECT_EQ(ToString(RelayMode::kBuffered), "buffered");
  EXPECT_EQ(ToString(RelayMode::kSpliced), "spliced");
  EXPECT_EQ(ToString(SessionState::kReadingHeader), "reading_header");
  EXPECT_EQ(ToString(SessionState::kConnecting), "connecting");
  EXPECT_EQ(ToString(SessionState::kClosing), "closing");
  EXPECT_EQ(ToString(ReceiveKind::kPoll), "poll");
  EXPECT_EQ(SessionId((uint64_t{3} << 48) + 17), "3-17");
  EXPECT_EQ(SessionId(17), "0-17");
}

TEST(Reasons, ConnectErrorsHaveTheirWord) {
  EXPECT_EQ(ConnectFailureFromErrno(ECONNREFUSED), ConnectFailure::kRefused);
  EXPECT_EQ(ConnectFailureFromErrno(ENOENT), ConnectFailure::kRefused);
  EXPECT_EQ(ConnectFailureFromErrno(ETIMEDOUT), ConnectFailure::kTimeout);
  EXPECT_EQ(ConnectFailureFromErrno(EHOSTUNREACH), ConnectFailure::kUnreachable);
  EXPECT_EQ(ConnectFailureFromErrno(EMFILE), ConnectFailure::kNoFiles);
  EXPECT_EQ(ConnectFailureFromErrno(EBADF), ConnectFailure::kOther);
}

}  // namespace
}  // namespace ringmain
