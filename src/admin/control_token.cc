#include "admin/control_token.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace ringmain {
namespace {

// b64token of RFC 6750: what is written without quoting. A = within, which only ends one there, does no harm.
bool IsTokenCharacter(unsigned char c) { return absl::ascii_isalnum(c) || (c != 0 && std::strchr("-._~+/=", c) != nullptr); }

// Empty if the file may be trusted and is no more open than it should be.
std::string WhatIsWrong(const struct stat& file) {
  if (!S_ISREG(file.st_mode)) return "is no regular file";
  if (file.st_uid != 0 && file.st_uid != geteuid()) return absl::StrCat("belongs to another user; chown it to root or to uid ", geteuid());
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "may be written by others than its owner; chmod 600 it";
  if ((file.st_mode & S_IROTH) != 0) return "may be read by every user; chmod 600 it, or 640 for a group";
  return "";
}

}  // namespace

absl::StatusOr<std::string> ReadControlToken(const std::string& path) {
  auto error = [&](const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("admin.token_file: ", path, " ", what)); };
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO must not be waited for
  struct stat stat{};
  if (!file.valid() || fstat(file.get(), &stat) != 0)
    return error(absl::StrCat("cannot be read: ", strerror(errno), "; make one: (umask 077; openssl rand -hex 32 >", path, ")"));
  if (std::string wrong = WhatIsWrong(stat); !wrong.empty()) return error(wrong);
  std::string text(kMostToken + 64, '\0');
  ssize_t n = read(file.get(), text.data(), text.size());
  if (n < 0) return error(absl::StrCat("cannot be read: ", strerror(errno)));
  text.resize(static_cast<size_t>(n));
  absl::StripAsciiWhitespace(&text);
  if (text.empty()) return error("is empty; put a token into it, such as that of openssl rand -hex 32");
  if (text.size() < kLeastToken) return error(absl::StrCat("holds less than ", kLeastToken, " characters; write a longer token"));
  if (text.size() > kMostToken) return error(absl::StrCat("holds more than ", kMostToken, " characters; write a shorter token"));
  if (!std::all_of(text.begin(), text.end(), IsTokenCharacter))
    return error("holds something else than one token of letters, digits and - . _ ~ + / =");
  return text;
}

bool ShowsToken(std::string_view authorization, std::string_view token) {
  static constexpr std::string_view kScheme = "bearer ";
  if (token.empty() || !absl::StartsWithIgnoreCase(std::string(authorization), std::string(kScheme))) return false;
  std::string_view shown = authorization.substr(kScheme.size());
  shown.remove_prefix(std::min(shown.find_first_not_of(' '), shown.size()));
  volatile unsigned difference = shown.size() == token.size() ? 0 : 1;  // volatile: no leaving early
  for (size_t i = 0; i < shown.size(); ++i) difference = difference | static_cast<unsigned char>(shown[i] ^ token[i % token.size()]);
  return difference == 0;
}

}  // namespace ringmain
