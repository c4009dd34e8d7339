#include "uring/pipe_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

namespace ringmain {
namespace {

// Takes the process every new file descriptor while it lives.
class NoFiles {
 public:
  NoFiles() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = {0, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoFiles() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(PipePool, LendsWhatWasGivenBackLast) {
  PipePool pool(2);
  std::optional<uint16_t> first = pool.Acquire(), second = pool.Acquire();
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_EQ(pool.Acquire(), std::nullopt) << "both are lent";
  pool.Release(*first);
  EXPECT_EQ(pool.lent(), 1u);
  EXPECT_EQ(pool.Acquire(), first);
  EXPECT_EQ(pool.total(), 2u);
}

TEST(PipePool, TheirEndsBelongTogetherAndDoNotBlock) {
  PipePool pool(1);
  uint16_t pipe = pool.Acquire().value();
  EXPECT_EQ(write(pool.write_end(pipe), "abc", 3), 3);
  char text[4] = {};
  EXPECT_EQ(read(pool.read_end(pipe), text, 4), 3);
  EXPECT_STREQ(text, "abc");
  EXPECT_EQ(read(pool.read_end(pipe), text, 4), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(fcntl(pool.write_end(pipe), F_GETPIPE_SZ), static_cast<int>(PipePool::kLeastBytes));
}

TEST(PipePool, WhatIsDiscardedIsGone) {
  PipePool pool(1);
  uint16_t pipe = pool.Acquire().value();
  ASSERT_EQ(write(pool.write_end(pipe), "abc", 3), 3);
  pool.Discard(pipe);
  EXPECT_EQ(pool.total(), 0u);
  pipe = pool.Acquire().value();
  char text[4];
  EXPECT_EQ(read(pool.read_end(pipe), text, 4), -1);
}

TEST(PipePool, AsksAgainSomeTimeAfterARefusal) {
  PipePool pool(4);
  {
    NoFiles none;
    EXPECT_EQ(pool.Acquire(), std::nullopt);
  }
  int refusals = 0;
  while (!pool.Acquire().has_value() && refusals < 100'000) ++refusals;
  EXPECT_GT(refusals, 100) << "each question costs system calls";
  EXPECT_LT(refusals, 10'000);
  EXPECT_TRUE(pool.Acquire().has_value());
}

TEST(PipePool, WhatItHasServesWhileNoMoreIsToBeHad) {
  PipePool pool(4);
  uint16_t pipe = pool.Acquire().value();
  NoFiles none;
  EXPECT_EQ(pool.Acquire(), std::nullopt);
  pool.Release(pipe);
  EXPECT_EQ(pool.Acquire(), pipe);
}

}  // namespace
}  // namespace ringmain
