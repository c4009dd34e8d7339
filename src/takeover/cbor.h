// CBOR (RFC 8949), as the messages of a takeover are written, by way of nlohmann-json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ringmain {

using Json = nlohmann::json;

std::string ToCbor(const Json& json);
// Errors: InvalidArgument; also if it is nested deeper than any message of ours (the parser calls itself for each level).
absl::StatusOr<Json> FromCbor(std::string_view bytes);

// A number that is not negative and fits. Throws Json::exception if it is none.
template <typename T>
T Number(const Json& json);

}  // namespace ringmain
