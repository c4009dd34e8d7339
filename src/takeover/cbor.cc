#include "takeover/cbor.h"

#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

// Stops the parser where it gets too deep.
class DepthCheck : public Json::json_sax_t {
 public:
  static constexpr int kDeepest = 16;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool key(string_t&) override { return true; }
  bool start_object(size_t) override { return ++depth_ <= kDeepest; }
  bool end_object() override { return --depth_ >= 0; }
  bool start_array(size_t) override { return ++depth_ <= kDeepest; }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  int depth_ = 0;
};

}  // namespace

std::string ToCbor(const Json& json) {
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

absl::StatusOr<Json> FromCbor(std::string_view bytes) {
  DepthCheck check;
  Json json;
  if (Json::sax_parse(bytes, &check, Json::input_format_t::cbor))
    json = Json::from_cbor(bytes, /*strict=*/true, /*allow_exceptions=*/false);
  else
    json = Json(Json::value_t::discarded);
  if (json.is_discarded()) return absl::InvalidArgumentError("not in the form of a message");
  return json;
}

template <typename T>
T Number(const Json& json) {
  if (!json.is_number_unsigned()) throw Json::type_error::create(302, "not a number that may be here", &json);
  auto number = json.get<uint64_t>();
  if (number > static_cast<uint64_t>(std::numeric_limits<T>::max()))
    throw Json::out_of_range::create(406, absl::StrCat(number, " is too large"), &json);
  return static_cast<T>(number);
}

template uint8_t Number(const Json&);
template uint16_t Number(const Json&);
template uint32_t Number(const Json&);
template int Number(const Json&);
template int64_t Number(const Json&);
template uint64_t Number(const Json&);

}  // namespace ringmain
