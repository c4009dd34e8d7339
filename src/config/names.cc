#include "config/names.h"

namespace ringmain {

std::string_view ToString(BalanceMethod method) { return NameOf(kBalanceNames, method); }
std::string_view ToString(HealthCheckType type) { return NameOf(kHealthCheckTypeNames, type); }
std::string_view ToString(ServerState state) { return NameOf(kServerStateNames, state); }
std::string_view ToString(DnsType type) { return NameOf(kDnsTypeNames, type); }
std::string_view ToString(ProxyProtocolAccept accept) { return NameOf(kProxyProtocolAcceptNames, accept); }
std::string_view ToString(ProxyProtocolSend send) { return NameOf(kProxyProtocolSendNames, send); }
std::string_view ToString(LogFormat format) { return NameOf(kLogFormatNames, format); }
std::string_view ToString(LogLevel level) { return NameOf(kLogLevelNames, level); }

}  // namespace ringmain
