// The words of the configuration's choices, in one place for reading and for printing.
#pragma once

#include <array>
#include <string_view>

#include "config/config.h"

namespace ringmain {

template <typename E>
struct Named {
  std::string_view text;
  E value;
};

inline constexpr std::array<Named<BalanceMethod>, 2> kBalanceNames{
    {{"round_robin", BalanceMethod::kRoundRobin}, {"least_connections", BalanceMethod::kLeastConnections}}};
inline constexpr std::array<Named<HealthCheckType>, 1> kHealthCheckTypeNames{{{"tcp", HealthCheckType::kTcp}}};
inline constexpr std::array<Named<LogFormat>, 2> kLogFormatNames{
    {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}};
inline constexpr std::array<Named<LogLevel>, 5> kLogLevelNames{{{"trace", LogLevel::kTrace},
                                                                {"debug", LogLevel::kDebug},
                                                                {"info", LogLevel::kInfo},
                                                                {"warn", LogLevel::kWarn},
                                                                {"error", LogLevel::kError}}};

inline constexpr std::array<Named<bool>, 2> kOnOffNames{{{"on", true}, {"off", false}}};

template <typename E, size_t N>
constexpr std::string_view NameOf(const std::array<Named<E>, N>& names, E value) {
  for (const Named<E>& name : names) {
    if (name.value == value) return name.text;
  }
  return "unknown";
}

}  // namespace ringmain
