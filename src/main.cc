// The command line. Exit codes are those of process/process.h.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/config.h"
#include "process/ask_ready.h"
#include "process/process.h"
#include "process/upgrade.h"

namespace ringmain {
namespace {

struct Options {
  std::string config_file;
  std::string listen;
  std::string to;
  std::string admin;
  std::string checked_file;
  std::string upgraded_file;
  std::string asked_file;
  bool take_over = false;
  bool never_start = false;
  bool linger = false;
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

int AskHealth(const Options& options) {
  if (options.asked_file.empty()) {
    auto address = SocketAddress::Parse(options.admin.empty() ? kDefaultAdminAddress : options.admin);
    return address.ok() ? AskReady(*address) : UsageError(absl::StrCat("health: --admin: ", address.status().message()));
  }
  auto config = LoadFile(options.asked_file);
  if (config.ok()) return AskReady((*config)->admin_listen);
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
  auto config = file ? LoadFile(options.config_file) : FromCommandLine(options.listen, options.to, options.admin);
  if (!config.ok()) {
    if (!file) return UsageError(absl::StrCat("run: ", config.status().message()));
    std::cerr << config.status().message() << std::endl;
    return kExitUsage;
  }
  const char* disabled = std::getenv("RINGMAIN_DISABLE");
  return RunProcess(*std::move(config), {options.config_file, disabled != nullptr ? disabled : "", std::move(arguments),
                                         options.take_over || options.never_start, options.never_start, options.linger});
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("ringmain: an io_uring TCP load-balancing proxy", "ringmain");
  app.footer(
      "Examples:\n"
      "  ringmain run --listen 0.0.0.0:8080 --to 10.0.0.1:7001,10.0.0.2:7001\n"
      "  ringmain run --config /etc/ringmain/ringmain.yaml\n"
      "  ringmain check /etc/ringmain/ringmain.yaml\n"
      "Exit codes: 0 clean, 1 failure, 2 bad usage or configuration.");
  app.require_subcommand(0, 1);
  bool version_flag = false;
  app.add_flag("--version", version_flag, "Print the version and exit");

  CLI::App* run = app.add_subcommand("run", "Run the proxy until SIGTERM or SIGINT drains it");
  run->add_option("--config", options.config_file, "The YAML configuration")->type_name("FILE");
  run->add_flag("--takeover", options.take_over,
                "Take every session and listener over from the process that answers at takeover.socket, if there is one");
  run->add_flag("--takeover-only", options.never_start, "The same, but fail if nobody answers there, instead of starting as usual");
  run->add_flag("--linger", options.linger,
                "After another process has taken over: stay, without work, until SIGTERM. For a container that would be started again");
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

  CLI::App* health = app.add_subcommand("health", "Ask the running process whether it is ready: 0 if it is, else 1 and why not");
  CLI::Option* asked_file = health->add_option("--config", options.asked_file, "The YAML configuration, with admin.listen")->type_name("FILE");
  health->add_option("--admin", options.admin, absl::StrCat("The admin or metrics address (", std::string(kDefaultAdminAddress), ")"))
      ->type_name("ADDR")
      ->excludes(asked_file);
  health->footer("Ready means that it listens and does not drain.\nExample:\n  ringmain health --config /etc/ringmain/ringmain.yaml");

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
  if (health->parsed()) return AskHealth(options);
  if (run->parsed()) return Run(*run, options, {argv, argv + argc});
  return UsageError("give a command: run, upgrade, health, check or version (see ringmain --help)");
}

}  // namespace
}  // namespace ringmain

int main(int argc, char** argv) { return ringmain::Main(argc, argv); }
