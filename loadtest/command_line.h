// What the command lines of both programs have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <stdexcept>
#include <string>

#include "absl/status/statusor.h"

namespace ringmain::loadtest {

// The value, or std::invalid_argument with the option's name and the error's sentence.
template <typename T>
T ValueOrThrow(const char* option, absl::StatusOr<T> value) {
  if (!value.ok()) throw std::invalid_argument(std::string(option) + ": " + std::string(value.status().message()));
  return *std::move(value);
}

// Parses with `app`, whose name is the program's, then calls `convert`, which may throw what is wrong. Returns true if there is
// something to run; false if the program ends now with `exit_code`: after --help (0), or after one line about what is wrong (2).
bool ParseCommandLine(CLI::App& app, int argc, char** argv, const std::function<void()>& convert, int& exit_code);

}  // namespace ringmain::loadtest
