#include "protocol/frame.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringmain {
namespace {

using Result = FrameDecoder::Result;

// Decodes `pieces` one after the other; the payloads of all frames, and the last result.
std::vector<std::string> DecodeAll(FrameDecoder& decoder, const std::vector<std::string_view>& pieces, Result& last) {
  std::vector<std::string> payloads;
  for (std::string_view piece : pieces) {
    std::span<const char> input(piece);
    while ((last = decoder.Next(input)) == Result::kFrame) payloads.push_back(decoder.TakePayload());
    if (last == Result::kTooLarge) break;
    EXPECT_TRUE(input.empty());
  }
  return payloads;
}

TEST(FrameTest, HeaderIsBigEndian) {
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(0x01020304, header);
  EXPECT_EQ(std::string_view(header, 4), std::string_view("\x01\x02\x03\x04", 4));
}

TEST(FrameTest, RequestAndReplyBytes) {
  std::string bytes;
  AppendRequest("abc", bytes);
  EXPECT_EQ(bytes, std::string("\0\0\0\3abc", 7));
  bytes.clear();
  AppendReply(FrameStatus::kOk, "abc", bytes);
  EXPECT_EQ(bytes, std::string("\0\0\0\4\0abc", 8));
  bytes.clear();
  AppendReply(FrameStatus::kBusy, "", bytes);
  EXPECT_EQ(bytes, std::string("\0\0\0\1\1", 5));
}

TEST(FrameTest, DecodesWhateverTheCut) {
  std::string bytes;
  AppendRequest("", bytes);
  AppendRequest("x", bytes);
  AppendRequest(std::string(300, 'y'), bytes);
  AppendRequest("", bytes);
  const std::vector<std::string> expected = {"", "x", std::string(300, 'y'), ""};
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second : {first, (first + bytes.size()) / 2, bytes.size()}) {
      FrameDecoder decoder(kMaxRequestPayload);
      std::string_view all(bytes);
      Result last{};
      EXPECT_EQ(DecodeAll(decoder, {all.substr(0, first), all.substr(first, second - first), all.substr(second)}, last),
                expected)
          << "cut at " << first << " and " << second;
      EXPECT_EQ(last, Result::kNeedMore);
      EXPECT_TRUE(decoder.at_boundary());
    }
  }
}

TEST(FrameTest, DecodesByteByByte) {
  std::string bytes;
  AppendReply(FrameStatus::kOk, "hello", bytes);
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < bytes.size(); ++i) pieces.push_back(std::string_view(bytes).substr(i, 1));
  FrameDecoder decoder(kMaxReplyPayload);
  Result last{};
  EXPECT_EQ(DecodeAll(decoder, pieces, last), std::vector<std::string>{std::string("\0hello", 6)});
}

TEST(FrameTest, TruncatedFrameIsNotComplete) {
  std::string bytes;
  AppendRequest("hello", bytes);
  for (size_t length = 1; length < bytes.size(); ++length) {
    FrameDecoder decoder(kMaxRequestPayload);
    Result last{};
    EXPECT_TRUE(DecodeAll(decoder, {std::string_view(bytes).substr(0, length)}, last).empty());
    EXPECT_EQ(last, Result::kNeedMore);
    EXPECT_FALSE(decoder.at_boundary()) << length;
  }
}

TEST(FrameTest, LargestIsTakenOneMoreIsNot) {
  std::string bytes;
  AppendRequest(std::string(kMaxRequestPayload, 'z'), bytes);
  FrameDecoder decoder(kMaxRequestPayload);
  Result last{};
  std::vector<std::string> payloads = DecodeAll(decoder, {bytes}, last);
  ASSERT_EQ(payloads.size(), 1u);
  EXPECT_EQ(payloads[0].size(), kMaxRequestPayload);

  for (uint32_t length : {kMaxRequestPayload + 1, 0xffffffffu}) {
    char header[kFrameHeaderBytes];
    EncodeFrameHeader(length, header);
    FrameDecoder other(kMaxRequestPayload);
    EXPECT_TRUE(DecodeAll(other, {std::string_view(header, 4), "more"}, last).empty());
    EXPECT_EQ(last, Result::kTooLarge);
  }
}

}  // namespace
}  // namespace ringmain
