#include "loadtest/command_line.h"

#include <cstdio>

namespace ringmain::loadtest {

bool ParseCommandLine(CLI::App& app, int argc, char** argv, const std::function<void()>& convert, int& exit_code) {
  try {
    app.parse(argc, argv);
    convert();
    return true;
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    exit_code = 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), error.what());
    exit_code = 2;
  }
  return false;
}

}  // namespace ringmain::loadtest
