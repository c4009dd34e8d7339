#include "top/http.h"

#include <algorithm>
#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "top/text.h"

namespace ringmain::top {
namespace {

constexpr std::string_view kElsewhere = "; give the address of admin.listen with --admin";
constexpr size_t kMostShown = 200;  // of what the other side says

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

// The first line of what the other side says, short enough to be part of a message.
std::string FirstLine(std::string_view text) {
  text = text.substr(0, text.find_first_of("\r\n"));
  return Printable(text.substr(0, kMostShown));
}

// The value of a header; empty if there is none. `head` is without the status line.
std::string_view Header(std::string_view head, std::string_view name) {
  while (!head.empty()) {
    std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    size_t colon = line.find(':');
    if (colon == std::string_view::npos || !absl::EqualsIgnoreCase(Absl(line.substr(0, colon)), Absl(name))) continue;
    absl::string_view value = absl::StripAsciiWhitespace(Absl(line.substr(colon + 1)));
    return {value.data(), value.size()};
  }
  return {};
}

absl::Status Refusal(int code, std::string_view status_line, std::string_view body) {
  std::string said = FirstLine(status_line.substr(status_line.find(' ') + 1));
  if (std::string line = FirstLine(body); !line.empty()) absl::StrAppend(&said, ": ", line);
  if (code == 401 || code == 403)
    return absl::PermissionDeniedError(absl::StrCat("the answer is ", said, "; if it asks for a token, name the file that holds it with --token-file"));
  if (code == 404)
    return absl::NotFoundError(absl::StrCat("there is no /api/v1/status (", said, "): not ringmain, or its metrics.listen", std::string(kElsewhere)));
  return absl::UnavailableError(absl::StrCat("the answer is ", said));
}

}  // namespace

std::string StatusRequest(std::string_view host, uint32_t sessions, std::string_view token) {
  std::string request = absl::StrCat("GET /api/v1/status?sessions=", sessions, " HTTP/1.0\r\nHost: ", Absl(host),
                                     "\r\nAccept: application/json\r\nConnection: close\r\n");
  if (!token.empty()) absl::StrAppend(&request, "Authorization: Bearer ", Absl(token), "\r\n");
  return request + "\r\n";
}

absl::StatusOr<std::string_view> BodyOf(std::string_view response) {
  if (response.empty()) return absl::UnavailableError("the connection was closed without an answer");
  size_t end = response.find("\r\n\r\n");
  std::string_view status_line = response.substr(0, response.find("\r\n"));
  int code = 0;
  if (end == std::string_view::npos || !status_line.starts_with("HTTP/1.") || status_line.size() < sizeof("HTTP/1.1 200") - 1 ||
      std::from_chars(status_line.data() + 9, status_line.data() + 12, code).ec != std::errc())
    return absl::UnavailableError(absl::StrCat("what answers there does not speak HTTP: '", FirstLine(response.substr(0, 40)), "'", std::string(kElsewhere)));
  std::string_view head = response.substr(status_line.size(), end - status_line.size() + 2), body = response.substr(end + 4);
  if (code != 200) return Refusal(code, status_line, body);
  std::string_view length_text = Header(head, "Content-Length");
  size_t length = body.size();
  std::from_chars(length_text.data(), length_text.data() + length_text.size(), length);
  if (body.size() < length) return absl::UnavailableError(absl::StrCat("the answer broke off after ", body.size(), " of ", length, " bytes"));
  return body.substr(0, length);
}

absl::StatusOr<std::string> TokenOf(std::string_view contents, std::string_view file) {
  absl::string_view token = absl::StripAsciiWhitespace(Absl(contents));
  if (token.empty()) return absl::FailedPreconditionError(absl::StrCat(Absl(file), ": there is no token in it"));
  // Anything else could end the header and begin another.
  if (!std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; }))
    return absl::FailedPreconditionError(absl::StrCat(Absl(file), ": a token is one line of printable ASCII without spaces"));
  return std::string(token);
}

}  // namespace ringmain::top
