// The query of a request, such as `sort=bytes&client=10.0.0.0%2F8`, read. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace ringmain {

// Names and values decoded: %xx, and + for a space; the last value of each name. A % that begins no %xx stands for itself.
std::map<std::string, std::string> ReadQuery(std::string_view query);

}  // namespace ringmain
