#include "top/controls.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace ringmain::top {
namespace {

constexpr char kEscape = 0x1b;

struct Sequence {
  std::string_view bytes;  // after ESC
  KeyName name;
};
// What terminals send (xterm's control sequences; those with O in application mode, [1~ and [4~ are of the Linux console and screen).
constexpr std::array<Sequence, 18> kSequences = {{
    {"[A", KeyName::kUp},      {"OA", KeyName::kUp},        {"[B", KeyName::kDown},  {"OB", KeyName::kDown}, {"[C", KeyName::kRight}, {"OC", KeyName::kRight},
    {"[D", KeyName::kLeft},    {"OD", KeyName::kLeft},      {"[H", KeyName::kHome},  {"OH", KeyName::kHome}, {"[1~", KeyName::kHome}, {"[7~", KeyName::kHome},
    {"[F", KeyName::kEnd},     {"OF", KeyName::kEnd},       {"[4~", KeyName::kEnd},  {"[5~", KeyName::kPageUp}, {"[6~", KeyName::kPageDown}, {"[Z", KeyName::kBackTab},
}};

// How many bytes of `bytes`, which begin with ESC, are one sequence; none if it is not complete.
std::optional<size_t> SequenceLength(std::string_view bytes) {
  if (bytes.size() < 2) return std::nullopt;
  if (bytes[1] == 'O') return bytes.size() < 3 ? std::nullopt : std::optional<size_t>(3);
  if (bytes[1] != '[') return 1;  // the Escape key, and then something else
  for (size_t i = 2; i < bytes.size(); ++i)
    if (bytes[i] >= 0x40 && bytes[i] <= 0x7e) return i + 1;  // the final byte (ECMA-48, 5.4)
  return bytes.size() < 32 ? std::nullopt : std::optional(bytes.size());
}

std::optional<Key> KeyOf(char c) {
  switch (c) {
    case '\r':
    case '\n':
      return Key{KeyName::kEnter};
    case '\t':
      return Key{KeyName::kTab};
    case 0x7f:
    case '\b':
      return Key{KeyName::kBackspace};
    default:
      return static_cast<unsigned char>(c) < 0x80 ? std::optional(Key{KeyName::kCharacter, c}) : std::nullopt;
  }
}

constexpr char Control(char letter) { return static_cast<char>(letter & 0x1f); }

}  // namespace

std::vector<Key> KeyDecoder::Feed(std::string_view bytes) {
  std::vector<Key> keys;
  std::string all = std::exchange(pending_, {}) + std::string(bytes);
  for (std::string_view left = all; !left.empty();) {
    if (left[0] != kEscape) {
      if (std::optional<Key> key = KeyOf(left[0])) keys.push_back(*key);
      left.remove_prefix(1);
      continue;
    }
    std::optional<size_t> length = SequenceLength(left);
    if (!length.has_value()) {
      pending_ = left;
      break;
    }
    std::string_view sequence = left.substr(1, *length - 1);
    auto found = std::find_if(kSequences.begin(), kSequences.end(), [&](const Sequence& one) { return one.bytes == sequence; });
    if (sequence.empty()) keys.push_back({KeyName::kEscape});
    if (found != kSequences.end()) keys.push_back({found->name});
    left.remove_prefix(*length);
  }
  return keys;
}

std::vector<Key> KeyDecoder::End() {
  bool escape = std::exchange(pending_, {}).size() == 1;
  return escape ? std::vector<Key>{{KeyName::kEscape}} : std::vector<Key>{};
}

void Controls::Press(Key key, size_t page) {
  if (editing) return Edit(key);
  if (help && (key.name != KeyName::kCharacter || key.character != 'q')) {  // any key leaves it, and does nothing else
    help = false;
    return;
  }
  const size_t columns = ColumnsOf(view).size();
  switch (key.name) {
    case KeyName::kCharacter:
      return PressCharacter(key.character);
    case KeyName::kEscape:
      filter.clear();
      break;
    case KeyName::kTab:
      return Show(static_cast<View>((static_cast<size_t>(view) + 1) % kViewNames.size()));
    case KeyName::kBackTab:
      return Show(static_cast<View>((static_cast<size_t>(view) + kViewNames.size() - 1) % kViewNames.size()));
    case KeyName::kLeft:
      order() = OrderBy(ColumnsOf(view), (order().column + columns - 1) % columns);
      break;
    case KeyName::kRight:
      order() = OrderBy(ColumnsOf(view), (order().column + 1) % columns);
      break;
    case KeyName::kUp:
      first -= std::min<size_t>(first, 1);
      break;
    case KeyName::kDown:
      ++first;
      break;
    case KeyName::kPageUp:
      first -= std::min(first, page);
      break;
    case KeyName::kPageDown:
      first += page;
      break;
    case KeyName::kHome:
      first = 0;
      break;
    case KeyName::kEnd:
      first = SIZE_MAX / 2;
      break;
    case KeyName::kEnter:
    case KeyName::kBackspace:
      break;
  }
}

void Controls::PressCharacter(char character) {
  switch (character) {
    case 'q':
      quit = true;
      break;
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
      return Show(static_cast<View>(character - '1'));
    case '<':
      return Press({KeyName::kLeft}, 0);
    case '>':
      return Press({KeyName::kRight}, 0);
    case 'r':
      order().descending = !order().descending;
      break;
    case '/':
      editing = true;
      kept_filter_ = filter;
      break;
    case 'p':
    case ' ':
      paused = !paused;
      break;
    case 'h':
    case '?':
      help = true;
      break;
    case 'k':
      return Press({KeyName::kUp}, 0);
    case 'j':
      return Press({KeyName::kDown}, 0);
    case 'g':
      return Press({KeyName::kHome}, 0);
    case 'G':
      return Press({KeyName::kEnd}, 0);
    case Control('L'):
      repaint = true;
      break;
    default:
      break;
  }
}

void Controls::Edit(Key key) {
  switch (key.name) {
    case KeyName::kCharacter:
      if (key.character == Control('U')) filter.clear();
      if (key.character >= ' ' && filter.size() < kLongestFilter) filter += key.character;
      break;
    case KeyName::kBackspace:
      if (!filter.empty()) filter.pop_back();
      break;
    case KeyName::kEscape:
      filter = kept_filter_;
      editing = false;
      break;
    case KeyName::kEnter:
      editing = false;
      break;
    default:
      break;
  }
  first = 0;
}

void Controls::Show(View shown) {
  view = shown;
  first = 0;
}

void Controls::Clamp(size_t rows, size_t page) { first = std::min(first, rows - std::min(rows, page)); }

}  // namespace ringmain::top
