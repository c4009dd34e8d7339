#include "log/line_format.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ringmain {
namespace {

using std::chrono::system_clock;

constexpr system_clock::time_point kTime{milliseconds(1767323045678)};  // 2026-01-02T03:04:05.678Z

std::string Text(std::string_view message) { return FormatLine(LogFormat::kText, kTime, LogLevel::kInfo, message); }

TEST(LineFormatTest, WritesTextInUtc) {
  setenv("TZ", "America/New_York", 1);
  tzset();
  EXPECT_EQ(Text("message"), "2026-01-02T03:04:05.678Z info  message\n");
  unsetenv("TZ");
  tzset();
  EXPECT_EQ(FormatLine(LogFormat::kText, system_clock::time_point(milliseconds(7)), LogLevel::kError, ""),
            "1970-01-01T00:00:00.007Z error \n");
}

TEST(LineFormatTest, AlignsEveryLevel) {
  const std::pair<LogLevel, const char*> levels[] = {{LogLevel::kTrace, "trace m\n"},
                                                     {LogLevel::kDebug, "debug m\n"},
                                                     {LogLevel::kInfo, "info  m\n"},
                                                     {LogLevel::kWarn, "warn  m\n"},
                                                     {LogLevel::kError, "error m\n"}};
  for (const auto& [level, end] : levels)
    EXPECT_EQ(FormatLine(LogFormat::kText, kTime, level, "m"), std::string("2026-01-02T03:04:05.678Z ") + end);
}

TEST(LineFormatTest, EscapesControlCharacters) {
  auto escaped = [](std::string_view message) {
    std::string line = Text(message);
    return line.substr(31, line.size() - 32);
  };
  EXPECT_EQ(escaped("a\nb\r\tc"), "a\\nb\\r\\tc");
  EXPECT_EQ(escaped("\x1b[31mred"), "\\x1b[31mred");
  EXPECT_EQ(escaped(std::string_view("\0\x7f", 2)), "\\x00\\x7f");
  EXPECT_EQ(escaped("\xc3\xbc \xe2\x82\xac"), "\xc3\xbc \xe2\x82\xac");  // other UTF-8 stays
  EXPECT_EQ(escaped("\xc2\x9b"
                    "31m"),
            "\\xc2\x9b"
            "31m");  // CSI in one character; its tail alone is nothing
  EXPECT_EQ(escaped("\xc2\xa0"), "\xc2\xa0");
  EXPECT_EQ(escaped("\xc2"), "\xc2");
}

TEST(LineFormatTest, WritesJson) {
  EXPECT_EQ(FormatLine(LogFormat::kJson, kTime, LogLevel::kWarn, "message"),
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"message\":\"message\"}\n");
}

TEST(LineFormatTest, WritesOneParseableJsonObjectALine) {
  std::string all;
  for (int byte = 0; byte < 128; ++byte) all += static_cast<char>(byte);
  std::string line = FormatLine(LogFormat::kJson, kTime, LogLevel::kInfo, all);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(nlohmann::json::parse(line)["message"], all);
  // What is not UTF-8 is replaced, and the rest stays.
  line = FormatLine(LogFormat::kJson, kTime, LogLevel::kInfo, "a\xff\"b");
  EXPECT_EQ(nlohmann::json::parse(line)["message"], "a\xef\xbf\xbd\"b");
}

}  // namespace
}  // namespace ringmain
