#include "admin/http_message.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

HttpResponse Refused(int status, std::string_view why) { return {.status = status, .body = absl::StrCat(std::string(why), "\n")}; }

// A method and a header's name are tokens (RFC 9110, 5.6.2).
bool IsToken(std::string_view text) {
  auto fits = [](unsigned char c) { return absl::ascii_isalnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos; };
  return !text.empty() && std::all_of(text.begin(), text.end(), fits);
}

// Visible characters, spaces, tabs, and bytes of other character sets (RFC 9110, 5.5).
bool IsFieldValue(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7f); });
}

bool SameWord(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return absl::ascii_tolower(x) == absl::ascii_tolower(y); });
}

std::string_view Trimmed(std::string_view text) {
  size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

// Takes the first line off, without its end.
std::string_view TakeLine(std::string_view& bytes) {
  size_t end = std::min(bytes.find('\n'), bytes.size());
  std::string_view line = bytes.substr(0, end);
  bytes.remove_prefix(std::min(end + 1, bytes.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(static_cast<unsigned char>(c));
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// False if there is a % without two digits, a control character, or a segment . or .. (which a client resolves before it sends).
bool DecodePath(std::string_view text, std::string& path) {
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
      int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return false;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return false;
    path += c;
  }
  std::string closed = path + "/";
  return !absl::StrContains(closed, "/./") && !absl::StrContains(closed, "/../");
}

std::optional<HttpResponse> ReadRequestLine(std::string_view line, HttpRequest& request, bool& is_1_0) {
  size_t first = line.find(' ');
  size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last || line.find(' ', first + 1) != last)
    return Refused(400, "the request line is not METHOD PATH HTTP/1.1");
  std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  std::string_view version = line.substr(last + 1);
  if (!IsToken(method) || !IsFieldValue(target)) return Refused(400, "the request line is not METHOD PATH HTTP/1.1");
  if (!version.starts_with("HTTP/1.") || version.size() != 8 || !absl::ascii_isdigit(static_cast<unsigned char>(version[7])))
    return version.starts_with("HTTP/") ? Refused(505, "HTTP/1.1 is spoken here") : Refused(400, "the request line is not METHOD PATH HTTP/1.1");
  is_1_0 = version[7] == '0';
  request.method = method;
  size_t question = std::min(target.find('?'), target.size());
  if (!target.starts_with('/') || !DecodePath(target.substr(0, question), request.path)) return Refused(400, "no such path is possible");
  request.query = target.substr(std::min(question + 1, target.size()));
  return std::nullopt;
}

struct KeptHeader {
  std::string_view name;
  std::string HttpRequest::* value;
};
constexpr std::array<KeptHeader, 3> kKeptHeaders = {{
    {"host", &HttpRequest::host},
    {"content-type", &HttpRequest::content_type},
    {"authorization", &HttpRequest::authorization},
}};

// Headers as far as they are read; each of those that are kept may be there once.
struct Headers {
  std::array<bool, kKeptHeaders.size()> seen{};
  std::optional<size_t> content_length;
};

std::optional<HttpResponse> ReadHeader(std::string_view line, HttpHead& head, Headers& headers) {
  size_t colon = std::min(line.find(':'), line.size());
  std::string_view name = line.substr(0, colon);
  std::string_view value = Trimmed(line.substr(std::min(colon + 1, line.size())));
  if (colon == line.size() || !IsToken(name) || !IsFieldValue(value)) return Refused(400, "a header is malformed");
  auto is = [&](std::string_view other) { return SameWord(name, other); };
  for (size_t i = 0; i < kKeptHeaders.size(); ++i) {
    if (!is(kKeptHeaders[i].name)) continue;
    if (std::exchange(headers.seen[i], true)) return Refused(400, absl::StrCat("there are two headers ", std::string(kKeptHeaders[i].name)));
    head.request.*kKeptHeaders[i].value = value;
  }
  if (is("transfer-encoding")) return Refused(501, "transfer codings are not spoken here: send a Content-Length");
  if (is("expect")) head.expects_continue = SameWord(value, "100-continue");
  if (is("content-length")) {
    size_t length = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    bool number = !value.empty() && std::all_of(value.begin(), value.end(), absl::ascii_isdigit);
    if (!number || headers.content_length.has_value()) return Refused(400, "the Content-Length is not one number");
    if (error != std::errc() || length > kMostBody) return Refused(413, absl::StrCat("the body is longer than ", kMostBody, " bytes"));
    headers.content_length = length;
  }
  return std::nullopt;
}

std::string_view Phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 422: return "Unprocessable Content";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "";  // may be empty (4)
  }
}

}  // namespace

size_t HttpHeadLength(std::string_view bytes, size_t looked_at) {
  // An end that begins before `looked_at` has its last byte after it.
  for (size_t at = bytes.find('\n', looked_at - std::min<size_t>(looked_at, 2)); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
    std::string_view rest = bytes.substr(at + 1);
    if (rest.starts_with('\n')) return at + 2;
    if (rest.starts_with("\r\n")) return at + 3;
  }
  return 0;
}

std::optional<HttpResponse> ReadHttpHead(std::string_view bytes, HttpHead& head) {
  bool is_1_0 = false;
  if (auto refusal = ReadRequestLine(TakeLine(bytes), head.request, is_1_0)) return refusal;
  Headers headers;
  size_t count = 0;
  for (std::string_view line = TakeLine(bytes); !line.empty(); line = TakeLine(bytes)) {
    if (++count > kMostHeaders) return Refused(431, absl::StrCat("there are more than ", kMostHeaders, " headers"));
    if (auto refusal = ReadHeader(line, head, headers)) return refusal;
  }
  if (!is_1_0 && !headers.seen[0]) return Refused(400, "there is no Host header");  // (3.2)
  head.body_bytes = headers.content_length.value_or(0);
  return std::nullopt;
}

std::string WriteHttpResponse(const HttpResponse& response, bool with_body) {
  std::string text = absl::StrCat("HTTP/1.1 ", response.status, " ", std::string(Phrase(response.status)), "\r\nContent-Type: ", response.content_type,
                                  "\r\nContent-Length: ", response.body.size(),
                                  "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
  if (!response.allow.empty()) absl::StrAppend(&text, "Allow: ", response.allow, "\r\n");
  if (!response.policy.empty()) absl::StrAppend(&text, "Content-Security-Policy: ", response.policy, "\r\nReferrer-Policy: no-referrer\r\n");
  if (response.asks_token) absl::StrAppend(&text, "WWW-Authenticate: Bearer\r\n");
  absl::StrAppend(&text, "Connection: close\r\n\r\n");
  if (with_body) text += response.body;
  return text;
}

}  // namespace ringmain
