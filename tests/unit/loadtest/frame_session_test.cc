#include "loadtest/frame_session.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringmain::loadtest {
namespace {

std::string Request(std::string_view payload) {
  std::string bytes;
  AppendRequest(payload, bytes);
  return bytes;
}

std::string Reply(FrameStatus status, std::string_view payload) {
  std::string bytes;
  AppendReply(status, payload, bytes);
  return bytes;
}

std::string TakeAll(FrameSession& session) {
  std::string out;
  session.TakeOutput(out);
  return out;
}

bool Accept(uint64_t, std::string) { return true; }

TEST(FrameSessionTest, RepliesLeaveInTheOrderOfTheRequests) {
  FrameSession session;
  std::vector<uint64_t> numbers;
  auto submit = [&](uint64_t number, std::string payload) {
    numbers.push_back(number);
    return payload != "refuse";
  };
  ASSERT_TRUE(session.Receive(Request("a") + Request("refuse") + Request("b"), submit));
  EXPECT_EQ(numbers, (std::vector<uint64_t>{0, 1, 2}));
  EXPECT_FALSE(session.idle());
  EXPECT_EQ(TakeAll(session), "");  // even the busy reply waits for the one before it
  session.Complete(2, "b");
  EXPECT_EQ(TakeAll(session), "");
  session.Complete(0, "a");
  EXPECT_EQ(TakeAll(session),
            Reply(FrameStatus::kOk, "a") + Reply(FrameStatus::kBusy, "") + Reply(FrameStatus::kOk, "b"));
  EXPECT_TRUE(session.idle());
}

TEST(FrameSessionTest, NumbersGoOnAfterReplies) {
  FrameSession session;
  for (uint64_t expected = 0; expected < 5; ++expected) {
    ASSERT_TRUE(session.Receive(Request("x"), [&](uint64_t number, std::string) {
      EXPECT_EQ(number, expected);
      return true;
    }));
    session.Complete(expected, "x");
    EXPECT_EQ(TakeAll(session), Reply(FrameStatus::kOk, "x"));
  }
}

TEST(FrameSessionTest, TooLargeEndsIt) {
  FrameSession session;
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(kMaxRequestPayload + 1, header);
  EXPECT_FALSE(session.Receive(header, Accept));
}

TEST(FrameSessionTest, FullByNumberAndByBytes) {
  FrameSession many;
  for (size_t i = 0; i < FrameSession::kMaxReplies; ++i) {
    EXPECT_FALSE(many.full());
    ASSERT_TRUE(many.Receive(Request(""), Accept));
  }
  EXPECT_TRUE(many.full());
  many.Complete(0, "");
  TakeAll(many);
  EXPECT_FALSE(many.full());

  FrameSession large;
  std::string megabyte = Request(std::string(kMaxRequestPayload, 'x'));
  for (size_t i = 0; i < FrameSession::kMaxBytes / kMaxRequestPayload; ++i) {
    EXPECT_FALSE(large.full());
    ASSERT_TRUE(large.Receive(megabyte, Accept));
  }
  EXPECT_TRUE(large.full());
}

}  // namespace
}  // namespace ringmain::loadtest
