// Terminal: the screen and the keyboard, while `ringmain top` has them to itself.
//
// While it exists the terminal is in raw mode on its alternate screen, without a cursor. Whatever ends the process (but SIGKILL) gives it back as it was: the
// destructor, or, when the program fails, a signal handler. Signals that ask to quit, suspend, or say that the size has changed are taken as events.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "top/layout.h"
#include "top/screen.h"

namespace ringmain::top {

// At most one at a time, for signals have one handler in a process. Not thread-safe.
class Terminal {
 public:
  // Whether standard input and output are a terminal that knows control sequences (TERM is set, and not to `dumb`).
  static bool Usable();
  // Takes it. Colours are used unless NO_COLOR is set (https://no-color.org). Errors: a sentence.
  static absl::StatusOr<std::unique_ptr<Terminal>> Open();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal();

  Size size() const;

  // Puts these lines on the screen, one for each that it has; writes only those that have changed since.
  void Show(const std::vector<Line>& lines);
  // The next Show writes all of them.
  void Forget() { shown_.clear(); }

  // Readable when a signal has come.
  int signals_fd() const;
  // Takes the signals that have come. Suspends the process if one asked for that; returns when it has been continued.
  void TakeSignals();

  // Readable when keys have been pressed.
  int keys_fd() const;
  // What they sent; empty if the terminal is gone.
  std::string ReadKeys();

  // Somebody asked the process to end, or the terminal is gone.
  bool ended() const;

 private:
  explicit Terminal(bool colour) : colour_(colour) {}
  void Enter();
  void Suspend();
  void Write(std::string_view bytes);

  const bool colour_;
  bool gone_ = false;
  std::vector<std::string> shown_;  // what is on the screen; empty: not known
};

}  // namespace ringmain::top
