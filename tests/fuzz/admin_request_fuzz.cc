// Whatever is sent to the admin address: it is answered in order, in one response, and nothing is changed by who may not. The input is a request
// as it comes from the network; its first byte chooses the address it comes to, and whether there is a token.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "admin/http_message.h"
#include "admin/routes.h"
#include "admin/server_change.h"
#include "base/check.h"
#include "tests/unit/admin/sample.h"

using namespace ringmain;

namespace {

constexpr char kToken[] = "0123456789abcdef";

struct Fixture {
  Sample sample;
  AdminView view = sample.View();
  int changes = 0;

  Fixture() {
    view.reload = [this] { return ++changes, ReloadResult(); };
    view.change_server = [this](const ServerChange& change) {
      RINGMAIN_CHECK(!change.weight.has_value() || (*change.weight >= 1 && *change.weight <= kMaxServerWeight));
      return ++changes, ReloadResult();
    };
  }
};

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

void CheckResponse(const HttpResponse& response) {
  RINGMAIN_CHECK(response.status >= 200 && response.status < 600);
  RINGMAIN_CHECK(response.content_type.find_first_of("\r\n") == std::string::npos && response.allow.find_first_of("\r\n") == std::string::npos);
  std::string whole = WriteHttpResponse(response, true);
  size_t head = HttpHeadLength(whole);
  RINGMAIN_CHECK(head > 0 && whole.substr(head) == response.body);
  RINGMAIN_CHECK(WriteHttpResponse(response, false) == whole.substr(0, head));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Fixture fixture;
  if (size == 0) return 0;
  const bool loopback = (data[0] & 1) != 0, with_token = (data[0] & 2) != 0, metrics = (data[0] & 4) != 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  (void)ParseServerChange(bytes);

  // However the bytes come, the end of the head is at the same place.
  size_t length = HttpHeadLength(bytes);
  size_t looked_at = 0;
  for (size_t have = 0; have <= bytes.size() && (length == 0 || have < length); have += 1 + have / 3) {
    RINGMAIN_CHECK(HttpHeadLength(bytes.substr(0, have), looked_at) == 0);
    looked_at = have;
  }
  RINGMAIN_CHECK(HttpHeadLength(bytes, looked_at) == length);
  if (length == 0) return 0;

  HttpHead head;
  if (std::optional<HttpResponse> refusal = ReadHttpHead(bytes.substr(0, length), head)) {
    RINGMAIN_CHECK(refusal->status >= 400);
    CheckResponse(*refusal);
    return 0;
  }
  HttpRequest& request = head.request;
  RINGMAIN_CHECK(request.path.starts_with('/') && !Has(request.path + "/", "/../") && head.body_bytes <= kMostBody);
  request.body = bytes.substr(length, head.body_bytes);
  request.bound = Address(loopback ? "127.0.0.1:9900" : "10.0.0.1:9900");
  fixture.sample.SetToken(with_token ? kToken : "");
  fixture.changes = 0;
  HttpResponse response = Route(fixture.view, metrics ? RouteSet::kMetrics : RouteSet::kAll, request);
  CheckResponse(response);
  RINGMAIN_CHECK(!Has(response.body, kToken));
  if (fixture.changes > 0) {
    RINGMAIN_CHECK(request.method == "POST" && !metrics && (loopback || with_token));
    RINGMAIN_CHECK(!with_token || Has(request.authorization, kToken));
    RINGMAIN_CHECK(!loopback || Has(request.host, ":9900"));
  }
  return 0;
}
