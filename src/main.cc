// The command line. Exit codes are those of process/process.h.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/config.h"
#include "config/units.h"
#include "process/process.h"
#include "process/upgrade.h"
#include "top/top.h"

namespace ringmain {
namespace {

struct Options {
  std::string config_file;
  std::string listen;
  std::string to;
  std::string admin;
  std::string checked_file;
  std::string upgraded_file;
  bool take_over = false;
  bool never_start = false;
  top::Options top_options{.admin = std::string(kDefaultAdminAddress)};
  std::string top_interval = "1s";
};

// One line on standard error for what was wrong with the command line.
int UsageError(const std::string& message) {
  std::cerr << "ringmain: " << message << std::endl;
  return kExitUsage;
}

int PrintVersion() {
  std::cout << "ringmain " RINGMAIN_VERSION << std::endl;
  return kExitClean;
}

std::string Count(size_t count, const std::string& noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

int Check(const Options& options) {
  auto config = LoadFile(options.checked_file);
  if (!config.ok()) {
    std::cerr << config.status().message() << std::endl;
    return kExitFailure;
  }
  size_t servers = 0, names = 0;
  for (const UpstreamConfig& upstream : (*config)->upstreams) {
    servers += upstream.servers.size();
    names += upstream.names.size();
  }
  std::cout << options.checked_file << ": ok\n"
            << Count((*config)->listeners.size(), "listener") << ", " << Count((*config)->upstreams.size(), "upstream")
            << ", " << Count(servers, "server") << (names > 0 ? ", " + Count(names, "name") : "") << std::endl;
  return kExitClean;
}

int AskForUpgrade(const Options& options) {
  auto config = LoadFile(options.upgraded_file);
  if (config.ok()) return RequestUpgrade(**config);
  std::cerr << config.status().message() << std::endl;
  return kExitUsage;
}

int Run(const CLI::App& command, const Options& options, std::vector<std::string> arguments) {
  const bool file = command.count("--config") > 0;
  const bool listen = command.count("--listen") > 0;
  const bool to = command.count("--to") > 0;
  const bool admin = command.count("--admin") > 0;
  if (file && (listen || to || admin))
    return UsageError(absl::StrCat("run: --config and ",
                                   listen ? "--listen"
                                   : to   ? "--to"
                                          : "--admin",
                                   " exclude each other; with --config everything is in the file"));
  if (!file && !listen && !to && !admin)
    return UsageError("run: nothing to run; give --config FILE, or --listen ADDR and --to ADDR[,ADDR...]");
  if (!file && !listen) return UsageError("run: --listen ADDR is missing, the address to accept clients on");
  if (!file && !to) return UsageError("run: --to ADDR[,ADDR...] is missing, the servers to forward to");
  std::string text;
  auto config = file ? LoadFile(options.config_file, &text) : FromCommandLine(options.listen, options.to, options.admin);
  if (!config.ok()) {
    if (!file) return UsageError(absl::StrCat("run: ", config.status().message()));
    std::cerr << config.status().message() << std::endl;
    return kExitUsage;
  }
  const char* disabled = std::getenv("RINGMAIN_DISABLE");
  return RunProcess(*std::move(config), {options.config_file, std::move(text), disabled != nullptr ? disabled : "", std::move(arguments),
                                         options.take_over || options.never_start, options.never_start});
}

int ShowTop(Options options) {
  std::optional<milliseconds> interval = ParseDuration(options.top_interval);
  if (!interval.has_value() || *interval < top::kLeastInterval || *interval > top::kMostInterval)
    return UsageError(absl::StrCat("top: --interval: '", options.top_interval, "' is no duration from ", FormatDuration(top::kLeastInterval), " to ",
                                   FormatDuration(top::kMostInterval), "; write 500ms, 2s or 1m"));
  options.top_options.interval = *interval;
  absl::Status status = top::Run(options.top_options);
  if (status.ok()) return kExitClean;
  std::cerr << "ringmain: top: " << status.message() << std::endl;
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailure;
}

CLI::App* AddTop(CLI::App& app, Options& options) {
  top::Options& chosen = options.top_options;
  CLI::App* command = app.add_subcommand("top", "Show what a running ringmain does, live");
  command->add_option("--admin", chosen.admin, absl::StrCat("Its admin.listen address (", chosen.admin, ")"))->type_name("ADDR");
  command->add_option("--token-file", chosen.token_file, "Send the token in this file")->type_name("FILE");
  command->add_option("--interval", options.top_interval, "Between two refreshes: 500ms, 2s, 1m (1s)")->type_name("DURATION");
  command->add_option("--view", chosen.views, "What to show first, or, other than on a terminal, to print: listeners, upstreams, servers, workers, sessions")
      ->type_name("VIEW[,VIEW...]")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--sort", chosen.sort, "Sort by this column, named as in --json: names from A, figures from the largest")->type_name("COLUMN");
  command->add_option("--filter", chosen.filter, "Only rows with each of these words in one of their texts")->type_name("WORDS");
  command->add_option("--sessions", chosen.sessions, absl::StrCat("How many sessions to ask for if they are shown (", chosen.sessions, ")"))
      ->type_name("N")
      ->check(CLI::Range(uint32_t{1}, top::kMostSessions));
  command->add_flag("--once", chosen.once, "Print one report, after one interval, and exit");
  command->add_flag("--json", chosen.json, "Print one JSON object a line, for each refresh");
  command->footer(
      "On a terminal: 1 to 5 or Tab for the views, < and > to sort, r to reverse, / to filter, p to pause, h for all keys and what the columns "
      "say, q to quit. If standard input or output is no terminal, the same is printed as plain text at each refresh.\n"
      "Rates are the difference of two answers, so the first report comes after one interval. NO_COLOR=1 turns colours off.\n"
      "Exit codes: 0 clean, 1 if it cannot be reached, 2 bad usage.\n"
      "Examples:\n"
      "  ringmain top\n"
      "  ringmain top --admin 10.0.0.5:9900 --token-file /etc/ringmain/token --view sessions\n"
      "  ringmain top --once --view servers --filter down\n"
      "  ringmain top --json --interval 10s --view listeners,servers");
  return command;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("ringmain: an io_uring TCP load-balancing proxy", "ringmain");
  app.footer(
      "Examples:\n"
      "  ringmain run --listen 0.0.0.0:8080 --to 10.0.0.1:7001,10.0.0.2:7001\n"
      "  ringmain run --config /etc/ringmain/ringmain.yaml\n"
      "  ringmain check /etc/ringmain/ringmain.yaml\n"
      "  ringmain top\n"
      "Exit codes: 0 clean, 1 failure, 2 bad usage or configuration.");
  app.require_subcommand(0, 1);
  bool version_flag = false;
  app.add_flag("--version", version_flag, "Print the version and exit");

  CLI::App* run = app.add_subcommand("run", "Run the proxy until SIGTERM or SIGINT drains it");
  run->add_option("--config", options.config_file, "The YAML configuration")->type_name("FILE");
  run->add_flag("--takeover", options.take_over,
                "Take every session and listener over from the process that answers at takeover.socket, if there is one");
  run->add_flag("--takeover-only", options.never_start, "The same, but fail if nobody answers there, instead of starting as usual");
  run->add_option("--listen", options.listen, "Without a file: accept clients here")->type_name("ADDR");
  run->add_option("--to", options.to, "Without a file: forward to these servers")->type_name("ADDR[,ADDR...]");
  run->add_option(
         "--admin", options.admin,
         absl::StrCat("Without a file: serve metrics and status here (", std::string(kDefaultAdminAddress), ")"))
      ->type_name("ADDR");
  run->footer(
      "An ADDR is 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock; port 0 picks a free one. A server may be a host name, too, such as "
      "db.example.org:5432, which is looked up again and again. SIGTERM and SIGINT drain, a "
      "second one exits; SIGHUP reloads FILE.\n"
      "Examples:\n"
      "  ringmain run --listen 0.0.0.0:8080 --to 10.0.0.1:7001,10.0.0.2:7001\n"
      "  ringmain run --listen '[::]:8080' --to unix:/run/backend.sock --admin 127.0.0.1:0\n"
      "  ringmain run --config /etc/ringmain/ringmain.yaml");

  CLI::App* upgrade = app.add_subcommand(
      "upgrade", "Let the running process start its program anew, which takes every session over: 0 once it serves");
  upgrade->add_option("--config", options.upgraded_file, "The YAML configuration, with takeover.socket")->type_name("FILE")->required();
  upgrade->footer(
      "The running process starts the program that is now where it was started from itself, with the same arguments and "
      "--takeover-only. If that fails, it goes on.\nExample, after a package has been upgraded:\n  ringmain upgrade --config /etc/ringmain/ringmain.yaml");

  CLI::App* check = app.add_subcommand("check", "Check a configuration: 0 if it is valid, else 1 and every error");
  check->add_option("file", options.checked_file, "The YAML configuration")->type_name("FILE")->required();
  check->footer("Example:\n  ringmain check /etc/ringmain/ringmain.yaml");

  CLI::App* show_top = AddTop(app, options);

  CLI::App* version = app.add_subcommand("version", "Print the version");
  version->footer("Example:\n  ringmain version");

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return UsageError(absl::StrCat(error.what(), " (see ringmain --help)"));
  }
  if (version_flag || version->parsed()) return PrintVersion();
  if (check->parsed()) return Check(options);
  if (upgrade->parsed()) return AskForUpgrade(options);
  if (show_top->parsed()) return ShowTop(options);
  if (run->parsed()) return Run(*run, options, {argv, argv + argc});
  return UsageError("give a command: run, top, upgrade, check or version (see ringmain --help)");
}

}  // namespace
}  // namespace ringmain

int main(int argc, char** argv) { return ringmain::Main(argc, argv); }
