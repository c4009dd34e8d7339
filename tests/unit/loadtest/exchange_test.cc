#include "loadtest/exchange.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ringmain::loadtest {
namespace {

using Result = ReplyChecker::Result;

constexpr ExchangeShape kRaw = {.payload_bytes = 10, .framed = false};
constexpr ExchangeShape kFramed = {.payload_bytes = 10, .framed = true};

std::string Requests(const ExchangeShape& shape, const BytePattern& pattern, size_t count) {
  std::string bytes(count * shape.request_bytes(), '\0');
  FillRequests(shape, pattern, 0, bytes);
  return bytes;
}

// What a right server answers; requests in `busy` are refused.
std::string Replies(const BytePattern& pattern, size_t count, std::initializer_list<size_t> busy = {}) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    std::string payload(kFramed.payload_bytes, '\0');
    pattern.Fill(i * kFramed.payload_bytes, payload);
    bool refused = std::find(busy.begin(), busy.end(), i) != busy.end();
    AppendReply(refused ? FrameStatus::kBusy : FrameStatus::kOk, refused ? "" : payload, bytes);
  }
  return bytes;
}

// All results of feeding `bytes` in pieces of `piece`, without kNeedMore.
std::vector<Result> Feed(ReplyChecker& checker, std::string_view bytes, uint64_t requested, size_t piece) {
  std::vector<Result> results;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    std::string_view part = bytes.substr(at, piece);
    std::span<const char> data(part);
    while (true) {
      Result result = checker.Receive(data, requested);
      if (result == Result::kNeedMore) break;
      results.push_back(result);
      if (result == Result::kWrong) return results;
    }
  }
  return results;
}

TEST(ExchangeTest, RequestsAreTheSameInAnyPieces) {
  BytePattern pattern(1, 2);
  for (const ExchangeShape& shape : {kRaw, kFramed}) {
    std::string whole = Requests(shape, pattern, 5);
    for (size_t offset = 0; offset < whole.size(); ++offset)
      for (size_t size = 0; offset + size <= whole.size(); ++size) {
        std::string part(size, '\0');
        FillRequests(shape, pattern, offset, part);
        ASSERT_EQ(part, whole.substr(offset, size));
      }
  }
}

TEST(ExchangeTest, FramedRequestsDecode) {
  BytePattern pattern(1, 2);
  std::string bytes = Requests(kFramed, pattern, 3);
  FrameDecoder decoder(kMaxRequestPayload);
  std::span<const char> input(bytes);
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(decoder.Next(input), FrameDecoder::Result::kFrame);
    std::string payload = decoder.TakePayload();
    EXPECT_EQ(payload.size(), 10u);
    EXPECT_EQ(pattern.FindMismatch(i * 10, payload), 10u);
  }
  EXPECT_TRUE(input.empty());
}

TEST(ExchangeTest, RawEchoIsRightInAnyPieces) {
  BytePattern pattern(1, 2);
  std::string bytes = Requests(kRaw, pattern, 3);
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    ReplyChecker checker(kRaw, pattern);
    EXPECT_TRUE(checker.Complete(0));
    EXPECT_EQ(Feed(checker, bytes, bytes.size(), piece), std::vector<Result>(3, Result::kReply));
    EXPECT_TRUE(checker.Complete(bytes.size()));
    EXPECT_FALSE(checker.Complete(bytes.size() + 1));
  }
}

TEST(ExchangeTest, RawByteTooManyIsWrong) {
  BytePattern pattern(1, 2);
  std::string bytes = Requests(kRaw, pattern, 2);
  ReplyChecker checker(kRaw, pattern);
  EXPECT_EQ(Feed(checker, bytes, 10, 20), (std::vector<Result>{Result::kReply, Result::kWrong}));
  EXPECT_EQ(checker.error(), "received 20 bytes, more than the 10 sent");
}

TEST(ExchangeTest, RawWrongByteIsNamed) {
  BytePattern pattern(1, 2);
  std::string bytes = Requests(kRaw, pattern, 2);
  bytes[13] = static_cast<char>(bytes[13] + 1);
  ReplyChecker checker(kRaw, pattern);
  EXPECT_EQ(Feed(checker, bytes, 20, 20), (std::vector<Result>{Result::kReply, Result::kWrong}));
  EXPECT_EQ(checker.error().rfind("byte 13 is 0x", 0), 0u) << checker.error();
}

TEST(ExchangeTest, FramedRepliesAreRightInAnyPieces) {
  BytePattern pattern(1, 2);
  std::string bytes = Replies(pattern, 3, {1});
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    ReplyChecker checker(kFramed, pattern);
    EXPECT_EQ(Feed(checker, bytes, 3 * kFramed.request_bytes(), piece),
              (std::vector<Result>{Result::kReply, Result::kBusy, Result::kReply}));
    EXPECT_TRUE(checker.Complete(3 * kFramed.request_bytes()));
  }
}

TEST(ExchangeTest, FramedMistakesAreWrong) {
  BytePattern pattern(1, 2);
  const uint64_t one = kFramed.request_bytes();
  {
    ReplyChecker checker(kFramed, pattern);  // a reply before its request
    EXPECT_EQ(Feed(checker, Replies(pattern, 2), one, 100), (std::vector<Result>{Result::kReply, Result::kWrong}));
  }
  {
    ReplyChecker checker(kFramed, pattern);  // another request's payload
    std::string second = Replies(pattern, 2).substr(5 + 10);
    EXPECT_EQ(Feed(checker, second, 2 * one, 100), std::vector<Result>{Result::kWrong});
  }
  {
    ReplyChecker checker(kFramed, pattern);  // a status that does not exist
    std::string bytes = Replies(pattern, 1);
    bytes[4] = 7;
    EXPECT_EQ(Feed(checker, bytes, one, 100), std::vector<Result>{Result::kWrong});
  }
  {
    ReplyChecker checker(kFramed, pattern);  // too short, and too large a claim
    std::string bytes;
    AppendReply(FrameStatus::kOk, "short", bytes);
    EXPECT_EQ(Feed(checker, bytes, one, 100), std::vector<Result>{Result::kWrong});
    ReplyChecker other(kFramed, pattern);
    EXPECT_EQ(Feed(other, "\x7f\xff\xff\xff", one, 100), std::vector<Result>{Result::kWrong});
  }
  {
    ReplyChecker checker(kFramed, pattern);  // half a frame is not all
    EXPECT_TRUE(Feed(checker, "\1", one, 100).empty());
    EXPECT_FALSE(checker.Complete(0));
  }
}

}  // namespace
}  // namespace ringmain::loadtest
