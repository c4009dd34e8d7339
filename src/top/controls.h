// Keys, and what they change of what the screen shows. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "top/views.h"

namespace ringmain::top {

enum class KeyName : uint8_t {
  kCharacter,
  kEnter,
  kEscape,
  kBackspace,
  kTab,
  kBackTab,
  kUp,
  kDown,
  kLeft,
  kRight,
  kPageUp,
  kPageDown,
  kHome,
  kEnd,
};

struct Key {
  KeyName name = KeyName::kCharacter;
  char character = 0;  // of kCharacter: printable ASCII, or a control character that has no name here
  bool operator==(const Key&) const = default;
};

// Turns what a terminal sends into keys: a special one is several bytes, which may come in pieces, and begin with what the Escape key sends by itself.
class KeyDecoder {
 public:
  // Sequences of keys that it does not know are left out, bytes beyond ASCII too.
  std::vector<Key> Feed(std::string_view bytes);
  // Something that has begun is not complete. If nothing more comes soon, End() it.
  bool waiting() const { return !pending_.empty(); }
  // What waits is all there is: the Escape key, or nothing of sense.
  std::vector<Key> End();

 private:
  std::string pending_;  // begins with ESC
};

class Controls {
 public:
  explicit Controls(View at_first) : view(at_first) {
    for (size_t i = 0; i < orders.size(); ++i) orders[i] = DefaultOrder(static_cast<View>(i));
  }

  // `page` is how many rows are on the screen.
  void Press(Key key, size_t page);
  // Keeps the window on `rows` rows.
  void Clamp(size_t rows, size_t page);

  Order& order() { return orders.at(static_cast<size_t>(view)); }
  const Order& order() const { return orders.at(static_cast<size_t>(view)); }

  static constexpr size_t kLongestFilter = 100;

  View view;
  std::array<Order, kViewNames.size()> orders;
  size_t first = 0;  // the row that is on top
  std::string filter;
  bool editing = false;  // the filter is being typed
  bool paused = false;
  bool help = false;
  bool quit = false;
  bool repaint = false;  // the screen may hold what others wrote; whoever paints it says that it is done

 private:
  void Edit(Key key);
  void PressCharacter(char character);
  void Show(View shown);

  std::string kept_filter_;  // while it is being typed: what it was
};

}  // namespace ringmain::top
