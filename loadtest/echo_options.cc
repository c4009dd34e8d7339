#include "loadtest/echo_options.h"

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>

#include "loadtest/address_list.h"
#include "loadtest/command_line.h"
#include "loadtest/units.h"

namespace ringmain::loadtest {
namespace {

const char* const kDescription =
    "TCP server for tests and demos: an upstream that sends back what it receives.\n\n"
    "Modes:\n"
    "  echo     send everything back, then the end of the stream\n"
    "  discard  throw everything away\n"
    "  frames   length-prefixed requests, handled by --workers threads behind a queue of --queue; when it is full, the "
    "answer is a\n"
    "           busy frame at once\n";

struct Arguments {
  std::string listen, mode = "echo", delay = "0s", work = "0s", metrics;
};

EchoMode ParseMode(const std::string& text) {
  if (text == "echo") return EchoMode::kEcho;
  if (text == "discard") return EchoMode::kDiscard;
  if (text == "frames") return EchoMode::kFrames;
  throw std::invalid_argument("--mode: unknown mode '" + text + "'; known are: echo, discard, frames");
}

void Convert(const Arguments& arguments, EchoOptions& options) {
  options.listen = ValueOrThrow("--listen", ParseAddressList(arguments.listen));
  options.mode = ParseMode(arguments.mode);
  options.delay = ValueOrThrow("--delay", ParseDuration(arguments.delay));
  options.work = ValueOrThrow("--work", ParseDuration(arguments.work));
  if (options.delay != Duration::zero() && options.mode != EchoMode::kEcho)
    throw std::invalid_argument("--delay is for the mode echo");
  if (options.work != Duration::zero() && options.mode != EchoMode::kFrames)
    throw std::invalid_argument("--work is for the mode frames");
  if (arguments.metrics.empty()) return;
  options.metrics = ValueOrThrow("--metrics", SocketAddress::Parse(arguments.metrics));
  if (options.metrics->is_unix()) throw std::invalid_argument("--metrics: must be an IP address and port");
}

}  // namespace

bool ParseEchoOptions(int argc, char** argv, EchoOptions& options, int& exit_code) {
  CLI::App app(kDescription, "ringmain-echo");
  Arguments arguments;
  app.add_option("--listen", arguments.listen,
                 "127.0.0.1:7000, [::1]:7000, unix:/path; several with commas; port 0 is any free one")
      ->required();
  app.add_option("--mode", arguments.mode, "echo, discard or frames")->capture_default_str();
  app.add_option("--threads", options.threads, "threads, each with a ring of its own")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--delay", arguments.delay, "echo: wait before sending back")->capture_default_str();
  app.add_option("--workers", options.workers, "frames: threads that handle requests")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--queue", options.queue, "frames: requests that may wait for a worker")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--work", arguments.work, "frames: time that handling a request takes")->capture_default_str();
  app.add_option("--metrics", arguments.metrics, "serve GET /metrics here");
  return ParseCommandLine(app, argc, argv, [&] { Convert(arguments, options); }, exit_code);
}

}  // namespace ringmain::loadtest
