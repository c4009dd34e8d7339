// Reads the maps and lists of a YAML document into plain values and collects every error with its place in the file.
//
// Thread-compatible. Nothing here throws: only node kinds that were checked before are walked, and no yaml-cpp
// conversion is used.
//
// A reading function whose key is absent, or whose value is wrong, leaves its output as it was (the default); a wrong
// value adds one error. An alias is read at each place that uses it, and an error inside it is placed at its anchor.
#pragma once

#include <yaml-cpp/yaml.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/network.h"
#include "base/socket_address.h"
#include "config/names.h"

namespace ringmain {

// A place in the file, 1-based; the column counts bytes.
struct Place {
  int line = 1;
  int column = 1;
  friend auto operator<=>(const Place&, const Place&) = default;
};
Place PlaceOf(const YAML::Mark& mark);

inline constexpr std::string_view kOff = "off";
inline constexpr std::string_view kOn = "on";
inline constexpr std::string_view kAuto = "auto";

class ErrorList {
 public:
  static constexpr size_t kMax = 1000;

  // One line; control characters in `message` are escaped.
  void Add(Place place, std::string_view message);
  bool empty() const { return errors_.empty(); }
  // Enough was found: stop looking. It keeps a file that repeats a broken alias from costing more than its size.
  bool full() const { return errors_.size() >= kMax; }
  // In the order of the file, each error once. REQUIRES: !empty().
  absl::Status ToStatus(const std::string& file) const;

 private:
  struct Error {
    Place place;
    std::string message;
    friend auto operator<=>(const Error&, const Error&) = default;
  };
  std::vector<Error> errors_;
};

// `text` in quotes, shortened if very long.
std::string Quote(std::string_view text);

// A node with the words and the place that errors about it use.
struct Value {
  YAML::Node node;
  Place place;
  std::string name;  // the key, or what an item of a list is

  const std::string& text() const { return node.Scalar(); }  // REQUIRES: a scalar
};

// True if `value` is a scalar; else an error.
bool CheckScalar(const Value& value, ErrorList& errors);
// The items of a list, each called `item_name`; an error and nothing if it is not a list, is empty or holds more than
// `max` items. An item with no value is an error and left out.
std::vector<Value> Items(const Value& value, std::string_view item_name, size_t max, ErrorList& errors);
std::optional<SocketAddress> ReadAddress(const Value& value, ErrorList& errors);
// An IP address without a port.
std::optional<SocketAddress> ReadHost(const Value& value, ErrorList& errors);
std::optional<Network> ReadNetwork(const Value& value, ErrorList& errors);

struct PlacedName {
  std::string name;
  Place place;
};

enum class Need { kOptional, kRequired };

// One map. Each call of a reading function makes its key known; Finish() then reports the others.
class MapReader {
 public:
  // `errors` must outlive it. Anything but a map is an error, and reads as an empty map of which no key is required.
  MapReader(const Value& value, ErrorList& errors);

  // The value of a key, of any kind but null.
  const Value* Find(std::string_view key, Need need = Need::kOptional);

  // A required name. 1 to 64 letters, digits, '.', '_' or '-': what metrics, logs and shells take without quoting.
  std::optional<PlacedName> Name(std::string_view key);
  void Number(std::string_view key, uint32_t min, uint32_t max, uint32_t* out);
  // `word`, such as auto, is none.
  void NumberOr(std::string_view word, std::string_view key, uint32_t min, uint32_t max, std::optional<uint32_t>* out);
  void Time(std::string_view key, milliseconds min, milliseconds max, milliseconds* out);
  // `off` is zero.
  void TimeOrOff(std::string_view key, milliseconds min, milliseconds max, milliseconds* out);
  void MicrosecondsOrOff(std::string_view key, microseconds min, microseconds max, microseconds* out);
  void Seconds(std::string_view key, seconds min, seconds max, seconds* out);
  void SecondsOrOff(std::string_view key, seconds min, seconds max, seconds* out);
  void Percent(std::string_view key, uint32_t min, uint32_t max, uint32_t* out);
  // `off` is zero.
  void PercentOrOff(std::string_view key, uint32_t min, uint32_t max, uint32_t* out);
  void Size(std::string_view key, uint64_t min, uint64_t max, uint64_t* out);
  void SizeOr(std::string_view word, std::string_view key, uint64_t min, uint64_t max, std::optional<uint64_t>* out);
  void ByteRateOrOff(std::string_view key, uint64_t* per_second);  // off is 0
  // A rate alone, whose burst is what it allows in a second, or a map of both; `word`, such as off, is none.
  void RateOr(std::string_view word, std::string_view key, std::optional<RateConfig>* out);
  template <typename E, size_t N>
  void Choice(std::string_view key, const std::array<Named<E>, N>& names, E* out, Need need = Need::kOptional) {
    const Value* value = FindScalar(key, need);
    if (value == nullptr) return;
    std::vector<std::string> known;
    for (const auto& name : names) {
      if (value->text() == name.text) {
        *out = name.value;
        return;
      }
      known.emplace_back(name.text);
    }
    AddUnknownChoice(*value, known);
  }

  // Whether the key is there and is the scalar `word`.
  bool Is(std::string_view key, std::string_view word);

  void Finish();

 private:
  struct Entry {
    Value value;
    Place key_place;
  };

  const Value* FindScalar(std::string_view key, Need need = Need::kOptional);
  std::optional<RateConfig> Rate(const Value& value, std::string_view word);
  void WholeSeconds(std::string_view key, milliseconds time, seconds* out);
  void AddUnknownChoice(const Value& value, const std::vector<std::string>& known);

  ErrorList& errors_;
  const Place place_;  // of the map itself, also when it is read through an alias
  const bool is_map_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::vector<std::string> known_;
};

}  // namespace ringmain
