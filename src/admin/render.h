// How the admin side writes JSON.
#pragma once

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"

namespace ringmain {

using Json = nlohmann::ordered_json;

inline double Seconds(Duration duration) { return std::round(std::chrono::duration<double, std::milli>(duration).count()) / 1000; }

// A unix path may hold any bytes; JSON may not.
inline std::string Dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

}  // namespace ringmain
