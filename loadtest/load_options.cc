#include "loadtest/load_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "loadtest/address_list.h"
#include "loadtest/command_line.h"
#include "loadtest/units.h"

namespace ringmain::loadtest {
namespace {

constexpr uint64_t kMaxPayload = 1ull << 30;
constexpr uint64_t kDefaultPayload = 64;
constexpr uint64_t kDefaultBulkPayload = 64 << 10;

const char* const kDescription =
    "Load generator for TCP servers that send back what they receive; every byte is verified.\n\n"
    "Modes:\n"
    "  ping   closed loop: send a payload, wait for its echo, repeat\n"
    "  rate   open loop: --rate N operations a second in all, latency counted from when each was due\n"
    "  bulk   stream continuously, as fast as possible or at --rate 10MiB/s in all\n"
    "  churn  connect, exchange one payload, close (or --reset), repeat\n"
    "  idle   open the connections and hold them; --ping verifies each at start and at end\n";

// The command line as text; Convert gives it meaning.
struct Arguments {
  std::string mode, to, sources, payload, duration = "10s", warmup = "0s", connect_timeout = "5s",
                                          reply_timeout = "10s", rate;
};

void Require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

Mode ParseMode(const std::string& text) {
  for (Mode mode : {Mode::kPing, Mode::kRate, Mode::kBulk, Mode::kChurn, Mode::kIdle})
    if (text == ToString(mode)) return mode;
  throw std::invalid_argument("unknown mode '" + text + "'; known are: ping, rate, bulk, churn, idle");
}

double ParseOperationRate(const std::string& text) {
  size_t used = 0;
  double rate = 0;
  try {
    rate = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  if (used != text.size() || !std::isfinite(rate) || rate <= 0 || rate > 1e8)
    throw std::invalid_argument("--rate: '" + text + "' is not a number of operations a second; write it like 5000");
  return rate;
}

void ParseRate(const Arguments& arguments, LoadOptions& options) {
  if (options.mode == Mode::kRate) {
    Require(!arguments.rate.empty(), "mode rate needs --rate N, the operations a second");
    options.operations_per_second = ParseOperationRate(arguments.rate);
  } else if (!arguments.rate.empty()) {
    Require(options.mode == Mode::kBulk, "--rate is for the modes rate and bulk");
    uint64_t bytes = ValueOrThrow("--rate", ParseByteRate(arguments.rate));
    Require(bytes > 0, "--rate must be more than 0");
    options.operations_per_second = static_cast<double>(bytes) / static_cast<double>(options.shape.payload_bytes);
  }
}

void Convert(const Arguments& arguments, LoadOptions& options) {
  options.mode = ParseMode(arguments.mode);
  options.to = ValueOrThrow("--to", ParseAddressList(arguments.to));
  if (!arguments.sources.empty())
    options.source_addresses = ValueOrThrow("--source-addresses", ParseHostList(arguments.sources));
  for (const SocketAddress& source : options.source_addresses)
    for (const SocketAddress& to : options.to)
      Require(source.family() == to.family(), "--source-addresses must be of the same family as --to");
  options.duration = ValueOrThrow("--duration", ParseDuration(arguments.duration));
  options.warmup = ValueOrThrow("--warmup", ParseDuration(arguments.warmup));
  options.connect_timeout = ValueOrThrow("--connect-timeout", ParseDuration(arguments.connect_timeout));
  options.reply_timeout = ValueOrThrow("--reply-timeout", ParseDuration(arguments.reply_timeout));
  Require(options.duration > Duration::zero(), "--duration must be more than 0");

  const bool bulk = options.mode == Mode::kBulk;
  options.shape.payload_bytes = bulk ? kDefaultBulkPayload : kDefaultPayload;
  if (!arguments.payload.empty()) options.shape.payload_bytes = ValueOrThrow("--payload", ParseSize(arguments.payload));
  Require(options.shape.payload_bytes >= 1 && options.shape.payload_bytes <= kMaxPayload,
          "--payload must be 1 to 1GiB");
  if (options.shape.framed) {
    Require(options.mode == Mode::kPing || options.mode == Mode::kRate, "--frames is for the modes ping and rate");
    Require(options.shape.payload_bytes <= kMaxRequestPayload, "--payload must be at most 1MiB with --frames");
  }
  ParseRate(arguments, options);
  Require(options.connect_rate >= 0, "--connect-rate must not be negative");
  Require(!options.one_way || bulk, "--one-way is for the mode bulk");
  Require(!options.reset || options.mode == Mode::kChurn, "--reset is for the mode churn");
  Require(!options.ping || options.mode == Mode::kIdle, "--ping is for the mode idle");
  Require(options.mode != Mode::kIdle || options.warmup == Duration::zero(), "--warmup is not for the mode idle");
  options.threads = std::min(options.threads, options.connections);
}

void AddOptions(CLI::App& app, Arguments& arguments, LoadOptions& options) {
  app.add_option("mode", arguments.mode, "ping, rate, bulk, churn or idle")->required();
  app.add_option("--to", arguments.to, "where to connect: 127.0.0.1:7000, [::1]:7000, unix:/path; several with commas")
      ->required();
  app.add_option("--connections", options.connections, "connections in all")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--threads", options.threads, "threads, each with a ring of its own")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--payload", arguments.payload, "bytes of one operation (default 64, bulk 64KiB)");
  app.add_option("--duration", arguments.duration, "how long to measure")->capture_default_str();
  app.add_option("--warmup", arguments.warmup, "load before the measurement that counts for nothing but errors")
      ->capture_default_str();
  app.add_option("--rate", arguments.rate, "rate: operations a second; bulk: bytes a second like 10MiB/s");
  app.add_option("--connect-rate", options.connect_rate, "connections opened a second at start (default: no limit)");
  app.add_option("--connect-timeout", arguments.connect_timeout, "for one connection")->capture_default_str();
  app.add_option("--reply-timeout", arguments.reply_timeout, "without progress while a reply is missing")
      ->capture_default_str();
  app.add_option("--source-addresses", arguments.sources, "local addresses to connect from in turn, for more ports");
  app.add_flag("--frames", options.shape.framed, "ping, rate: length-prefixed frames (ringmain-echo --mode frames)");
  app.add_flag("--one-way", options.one_way, "bulk: expect nothing back (ringmain-echo --mode discard)");
  app.add_flag("--reset", options.reset, "churn: close with a reset");
  app.add_flag("--ping", options.ping, "idle: verify one exchange on every connection at start and at end");
  app.add_flag("--reconnect", options.reconnect, "open a connection that failed again, each 100 ms");
  app.add_option("--json", options.json, "also write the report as JSON to this file, - for standard output");
  app.add_flag("--quiet", options.quiet, "no progress line");
}

}  // namespace

const char* ToString(Mode mode) {
  switch (mode) {
    case Mode::kPing:
      return "ping";
    case Mode::kRate:
      return "rate";
    case Mode::kBulk:
      return "bulk";
    case Mode::kChurn:
      return "churn";
    case Mode::kIdle:
      return "idle";
  }
  return "?";
}

bool ParseLoadOptions(int argc, char** argv, LoadOptions& options, int& exit_code) {
  CLI::App app(kDescription, "ringmain-load");
  Arguments arguments;
  AddOptions(app, arguments, options);
  return ParseCommandLine(app, argc, argv, [&] { Convert(arguments, options); }, exit_code);
}

}  // namespace ringmain::loadtest
