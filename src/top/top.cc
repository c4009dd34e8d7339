#include "top/top.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "top/controls.h"
#include "top/report.h"
#include "top/screen.h"
#include "top/status_client.h"
#include "top/terminal.h"

namespace ringmain::top {
namespace {

// After this long an ESC was the key and not the beginning of a sequence.
constexpr Duration kSequencePause = milliseconds(50);

absl::StatusOr<std::vector<View>> ReadViews(const std::vector<std::string>& names) {
  std::vector<View> views;
  for (const std::string& name : names) {
    auto found = std::find(kViewNames.begin(), kViewNames.end(), name);
    if (found == kViewNames.end())
      return absl::InvalidArgumentError(absl::StrCat("--view: there is no '", name, "'; write one or more of ", absl::StrJoin(std::vector<std::string>(kViewNames.begin(), kViewNames.end()), ",")));
    views.push_back(static_cast<View>(found - kViewNames.begin()));
  }
  return views;
}

absl::Status CheckSort(const std::string& key, const std::vector<View>& views) {
  if (key.empty()) return absl::OkStatus();
  std::string known;
  for (View view : views) {
    if (FindColumn(ColumnsOf(view), key).has_value()) return absl::OkStatus();
    absl::StrAppend(&known, known.empty() ? "" : "; ", std::string(ToString(view)), " have ");
    const char* separator = "";
    for (const Column& column : ColumnsOf(view)) absl::StrAppend(&known, std::exchange(separator, ", "), std::string(column.key));
  }
  return absl::InvalidArgumentError(absl::StrCat("--sort: there is no column '", key, "'; ", known));
}

// 0: as wide as it gets.
size_t ReportWidth() {
  winsize window{};
  return isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 ? window.ws_col : 0;
}

class Top {
 public:
  Top(const Options& options, StatusClient client, Selection selection, bool live)
      : options_(options), client_(std::move(client)), selection_(std::move(selection)), live_(live), controls_(selection_.views.front()) {
    controls_.filter = selection_.filter;
    for (size_t i = 0; i < kViewNames.size(); ++i) {
      std::span<const Column> columns = ColumnsOf(static_cast<View>(i));
      if (std::optional<size_t> column = FindColumn(columns, selection_.sort)) controls_.orders[i] = OrderBy(columns, *column);
    }
  }

  absl::Status Run() {
    while (!done_) {
      if (TimePoint now = Clock::now(); !client_.busy() && !controls_.paused && now >= next_) Ask(now);
      Wait();
      if (auto answer = client_.Proceed(Clock::now())) {
        if (absl::Status status = Take(*std::move(answer)); !status.ok()) return status;
      }
      if (terminal_ != nullptr && std::exchange(changed_, false) && !done_) Draw();
    }
    return absl::OkStatus();
  }

 private:
  void Ask(TimePoint now) {
    next_ = now + options_.interval;
    asked_sessions_ = WantsSessions();
    client_.Ask(asked_sessions_ ? options_.sessions : 0, now);
  }

  bool WantsSessions() const {
    if (live_) return controls_.view == View::kSessions;
    return std::find(selection_.views.begin(), selection_.views.end(), View::kSessions) != selection_.views.end();
  }

  // For anything to happen, and takes what came from the terminal.
  void Wait() {
    std::array<pollfd, 3> fds = {{{client_.busy() ? client_.fd() : -1, client_.events(), 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}}};
    if (terminal_ != nullptr) {
      fds[1].fd = terminal_->keys_fd();
      fds[2].fd = terminal_->signals_fd();
    }
    std::optional<TimePoint> until;
    if (client_.busy())
      until = client_.deadline();
    else if (!controls_.paused)
      until = next_;
    TimePoint now = Clock::now();
    if (keys_.waiting()) until = std::min(until.value_or(TimePoint::max()), now + kSequencePause);
    // Rounded up: a moment early would mean to poll again.
    int timeout = until.has_value() ? static_cast<int>(std::chrono::ceil<milliseconds>(std::max(*until - now, Duration(0))).count()) : -1;
    int ready = poll(fds.data(), fds.size(), timeout);
    if (terminal_ == nullptr) return;
    if (ready > 0 && fds[2].revents != 0) {
      terminal_->TakeSignals();
      changed_ = true;
    }
    if (ready > 0 && fds[1].revents != 0)
      Press(keys_.Feed(terminal_->ReadKeys()));
    else if (keys_.waiting() && Clock::now() >= now + kSequencePause)
      Press(keys_.End());
    done_ = controls_.quit || terminal_->ended();
  }

  void Press(const std::vector<Key>& keys) {
    for (Key key : keys) controls_.Press(key, RowsOn(terminal_->size()));
    changed_ = true;
    if (WantsSessions() && !asked_sessions_) next_ = Clock::now();
    if (std::exchange(controls_.repaint, false)) terminal_->Forget();
  }

  absl::Status Take(absl::StatusOr<Sample> answer) {
    changed_ = true;
    if (!answer.ok()) {
      if (!now_.has_value() || options_.once) return answer.status();
      std::string error(answer.status().message());
      if (!live_ && options_.json) return Print(JsonError(client_.admin(), error, std::chrono::system_clock::now()));
      if (!live_ && error != error_) std::cerr << "ringmain: top: " << error << std::endl;
      error_ = std::move(error);
      return absl::OkStatus();
    }
    if (!live_ && !error_.empty()) std::cerr << "ringmain: top: " << client_.admin() << " answers again" << std::endl;
    error_.clear();
    before_ = std::exchange(now_, *std::move(answer));
    if (!live_) return before_.has_value() ? Report() : absl::OkStatus();
    if (terminal_ != nullptr) return absl::OkStatus();
    absl::StatusOr<std::unique_ptr<Terminal>> terminal = Terminal::Open();
    if (terminal.ok()) terminal_ = *std::move(terminal);
    return terminal.status();
  }

  Shown What() const {
    return {client_.admin(), options_.interval, before_.has_value() ? &*before_ : nullptr, &*now_, error_};
  }

  absl::Status Report() {
    done_ = options_.once;
    auto time = std::chrono::system_clock::now();
    if (options_.json) return Print(JsonReport(What(), selection_, time));
    return Print(TextReport(What(), selection_, ReportWidth(), time) + (options_.once ? "" : "\n"));
  }

  static absl::Status Print(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("cannot write to standard output: ", strerror(errno)));
  }

  void Draw() { terminal_->Show(Paint(What(), controls_, terminal_->size(), Clock::now())); }

  const Options options_;
  StatusClient client_;
  const Selection selection_;
  const bool live_;

  std::optional<Sample> before_, now_;
  std::string error_;  // of the last request; empty if it was answered
  TimePoint next_;     // when to ask again
  bool asked_sessions_ = false;
  bool done_ = false;
  bool changed_ = false;  // what is to be shown differs from what is

  // Of a live one.
  Controls controls_;
  KeyDecoder keys_;
  std::unique_ptr<Terminal> terminal_;  // null until there is something to show
};

}  // namespace

absl::Status Run(const Options& options) {
  const bool live = !options.once && !options.json && Terminal::Usable();
  absl::StatusOr<std::vector<View>> views = ReadViews(options.views);
  if (!views.ok()) return views.status();
  if (views->empty()) *views = live ? std::vector{View::kListeners} : std::vector{View::kListeners, View::kUpstreams, View::kServers, View::kWorkers};
  if (absl::Status status = CheckSort(options.sort, *views); !status.ok()) return status;
  absl::StatusOr<StatusClient> client = StatusClient::Create(options.admin, options.token_file);
  if (!client.ok()) return client.status();
  return Top(options, *std::move(client), {*std::move(views), options.filter, options.sort}, live).Run();
}

}  // namespace ringmain::top
