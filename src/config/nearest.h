// What a user who wrote an unknown name most likely meant. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringmain {

// The number of bytes to insert, delete or replace to turn `a` into `b` (Levenshtein 1966, by Wagner and Fischer's
// table).
size_t EditDistance(std::string_view a, std::string_view b);

// A hint to put after "unknown name": `did you mean 'x'?` if a known name is near (at most half of it differs), else
// `known: x, y, z`. REQUIRES: `known` is not empty.
std::string NearestHint(std::string_view name, const std::vector<std::string>& known);

}  // namespace ringmain
