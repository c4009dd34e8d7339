#include "top/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ringmain::top {
namespace {

// xterm's private modes: the alternate screen and the cursor's place (1049), no cursor (25), no line breaks at the right edge (7).
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J";
constexpr std::string_view kLeave = "\x1b[m\x1b[?7h\x1b[?25h\x1b[?1049l";

// What signal handlers need. They run on the only thread.
struct Taken {
  termios before{};           // the terminal's settings
  UniqueFd pipe_in, pipe_out;  // a byte for each signal
  volatile sig_atomic_t active = 0;
  volatile sig_atomic_t quit = 0;
};
Taken taken;

struct Handled {
  int signal;
  void (*handler)(int);
  bool once;  // then it is as it was without us
};

void OnSignal(int signal) {
  int error = errno;
  char byte = static_cast<char>(signal);
  if (signal != SIGWINCH && signal != SIGTSTP && signal != SIGCONT) taken.quit = 1;
  (void)!write(taken.pipe_in.get(), &byte, 1);  // full: there is something to be taken anyway
  errno = error;
}

void GiveBack() {
  if (taken.active == 0) return;
  taken.active = 0;
  (void)!write(STDOUT_FILENO, kLeave.data(), kLeave.size());
  (void)tcsetattr(STDIN_FILENO, TCSANOW, &taken.before);
}

// The handler is reset: the signal ends the process as soon as this returns.
void OnFailure(int signal) {
  GiveBack();
  raise(signal);
}

// A second signal of the quitting kind ends the process at once, for a write that hangs.
constexpr std::array<Handled, 10> kSignals = {{
    {SIGINT, &OnSignal, true},
    {SIGTERM, &OnSignal, true},
    {SIGHUP, &OnSignal, true},
    {SIGQUIT, &OnSignal, true},
    {SIGWINCH, &OnSignal, false},
    {SIGTSTP, &OnSignal, false},
    {SIGCONT, &OnSignal, false},
    {SIGABRT, &OnFailure, true},
    {SIGSEGV, &OnFailure, true},
    {SIGBUS, &OnFailure, true},
}};

void Handle(bool ours) {
  for (const Handled& one : kSignals) {
    struct sigaction action {};
    action.sa_handler = ours ? one.handler : SIG_DFL;
    action.sa_flags = static_cast<int>(ours && one.once ? SA_RESETHAND : 0);
    sigaction(one.signal, &action, nullptr);
  }
}

// Keys come one by one and unseen; only those that make signals (Ctrl-C, Ctrl-Z, Ctrl-\) keep that meaning.
void MakeRaw() {
  termios raw = taken.before;
  raw.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL | INLCR | IGNCR | ISTRIP);
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | IEXTEN);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  taken.active = 1;
  (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

}  // namespace

bool Terminal::Usable() {
  const char* term = std::getenv("TERM");
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' && std::strcmp(term, "dumb") != 0;
}

absl::StatusOr<std::unique_ptr<Terminal>> Terminal::Open() {
  int pipe[2];
  if (tcgetattr(STDIN_FILENO, &taken.before) != 0 || pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0)
    return absl::UnavailableError(absl::StrCat("cannot use this terminal: ", strerror(errno), "; try --once"));
  taken.pipe_out.reset(pipe[0]);
  taken.pipe_in.reset(pipe[1]);
  taken.quit = 0;
  const char* no_color = std::getenv("NO_COLOR");
  std::unique_ptr<Terminal> terminal(new Terminal(no_color == nullptr || *no_color == '\0'));
  Handle(true);
  terminal->Enter();
  return terminal;
}

Terminal::~Terminal() {
  GiveBack();
  Handle(false);
}

Size Terminal::size() const {
  winsize window{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0 || window.ws_row == 0) return {};
  return {window.ws_col, window.ws_row};
}

void Terminal::Show(const std::vector<Line>& lines) {
  const bool all = shown_.size() != lines.size();
  std::string bytes;
  if (all) {
    bytes = "\x1b[H\x1b[2J";
    shown_.assign(lines.size(), "");
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string line = lines[i].Encode(colour_);
    if (line == shown_[i]) continue;
    absl::StrAppend(&bytes, "\x1b[", i + 1, ";1H\x1b[2K", line);
    shown_[i] = std::move(line);
  }
  // Synchronized output (mode 2026): terminals that know it show the change at once, others ignore it.
  if (!bytes.empty()) Write("\x1b[?2026h" + bytes + "\x1b[?2026l");
}

int Terminal::signals_fd() const { return taken.pipe_out.get(); }

void Terminal::TakeSignals() {
  char byte;
  while (read(taken.pipe_out.get(), &byte, 1) == 1)
    if (byte == SIGTSTP)
      Suspend();
    else if (byte == SIGCONT)  // after a SIGSTOP, which nobody can take: others have had the terminal
      Enter();
    else if (byte == SIGWINCH)  // what was on the screen may have moved
      Forget();
}

void Terminal::Enter() {
  MakeRaw();
  Write(kEnter);
  Forget();
}

void Terminal::Suspend() {
  GiveBack();
  Handle(false);
  raise(SIGTSTP);  // returns when the process is continued
  Handle(true);
  (void)tcgetattr(STDIN_FILENO, &taken.before);
  Enter();
}

int Terminal::keys_fd() const { return STDIN_FILENO; }

std::string Terminal::ReadKeys() {
  std::array<char, 1024> buffer;
  ssize_t n = read(STDIN_FILENO, buffer.data(), buffer.size());
  if (n > 0) return std::string(buffer.data(), static_cast<size_t>(n));
  if (n == 0 || (errno != EINTR && errno != EAGAIN)) gone_ = true;
  return "";
}

bool Terminal::ended() const { return gone_ || taken.quit != 0; }

// A signal interrupts a write that hangs because nobody takes what is written.
void Terminal::Write(std::string_view bytes) {
  while (!bytes.empty() && !ended()) {
    ssize_t n = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
    if (n < 0 && errno == EAGAIN) {  // somebody who shares it made it non-blocking
      pollfd writable{STDOUT_FILENO, POLLOUT, 0};
      (void)poll(&writable, 1, -1);
    } else if (n < 0 && errno != EINTR) {
      gone_ = true;
    }
  }
}

}  // namespace ringmain::top
