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

inline constexpr std::array<Named<BalanceMethod>, 6> kBalanceNames{{{"round_robin", BalanceMethod::kRoundRobin},
                                                                    {"least_connections", BalanceMethod::kLeastConnections},
                                                                    {"random", BalanceMethod::kRandom},
                                                                    {"source_hash", BalanceMethod::kSourceHash},
                                                                    {"maglev", BalanceMethod::kMaglev},
                                                                    {"least_latency", BalanceMethod::kLeastLatency}}};
inline constexpr std::array<Named<ServerState>, 3> kServerStateNames{
    {{"enabled", ServerState::kEnabled}, {"drain", ServerState::kDrain}, {"disabled", ServerState::kDisabled}}};
inline constexpr std::array<Named<DnsType>, 4> kDnsTypeNames{
    {{"any", DnsType::kAny}, {"a", DnsType::kA}, {"aaaa", DnsType::kAaaa}, {"srv", DnsType::kSrv}}};
inline constexpr std::array<Named<HealthCheckType>, 3> kHealthCheckTypeNames{
    {{"tcp", HealthCheckType::kTcp}, {"send_expect", HealthCheckType::kSendExpect}, {"http", HealthCheckType::kHttp}}};
inline constexpr std::array<Named<ProxyProtocolAccept>, 3> kProxyProtocolAcceptNames{
    {{"off", ProxyProtocolAccept::kOff}, {"optional", ProxyProtocolAccept::kOptional}, {"required", ProxyProtocolAccept::kRequired}}};
inline constexpr std::array<Named<ProxyProtocolSend>, 3> kProxyProtocolSendNames{
    {{"off", ProxyProtocolSend::kOff}, {"v1", ProxyProtocolSend::kV1}, {"v2", ProxyProtocolSend::kV2}}};
inline constexpr std::array<Named<LogFormat>, 2> kLogFormatNames{
    {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}};
inline constexpr std::array<Named<LogLevel>, 5> kLogLevelNames{{{"trace", LogLevel::kTrace},
                                                                {"debug", LogLevel::kDebug},
                                                                {"info", LogLevel::kInfo},
                                                                {"warn", LogLevel::kWarn},
                                                                {"error", LogLevel::kError}}};

inline constexpr std::array<Named<bool>, 2> kUpDownNames{{{"up", true}, {"down", false}}};
inline constexpr std::array<Named<bool>, 2> kOnOffNames{{{"on", true}, {"off", false}}};

template <typename E, size_t N>
constexpr std::string_view NameOf(const std::array<Named<E>, N>& names, E value) {
  for (const Named<E>& name : names) {
    if (name.value == value) return name.text;
  }
  return "unknown";
}

}  // namespace ringmain
