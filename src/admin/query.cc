#include "admin/query.h"

#include <algorithm>
#include <charconv>

namespace ringmain {
namespace {

std::string Decode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

}  // namespace

std::map<std::string, std::string> ReadQuery(std::string_view query) {
  std::map<std::string, std::string> parameters;
  while (!query.empty()) {
    std::string_view parameter = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(parameter.size() + 1, query.size()));
    std::string_view name = parameter.substr(0, parameter.find('='));
    std::string_view value = parameter.substr(std::min(name.size() + 1, parameter.size()));
    if (!name.empty()) parameters[Decode(name)] = Decode(value);
  }
  return parameters;
}

}  // namespace ringmain
