// Ejection: a server that fails in use is left out for a while, each time in a row for longer, and never too many at once.
#include <algorithm>

#include "upstream/upstream.h"

namespace ringmain {
namespace {

Duration TimeOf(const EjectionConfig& config, uint32_t in_a_row) {
  return std::min<Duration>(Duration(config.time) * in_a_row, config.max_time);
}

}  // namespace

void Upstream::Succeeded(size_t i, TimePoint now) {
  if (!config_.ejection.has_value()) return;
  Server& server = *servers_[i];
  server.ForgetFailures();
  uint32_t ejections = server.ejections();
  // It has worked for as long as it was left out last.
  if (ejections > 0 && now >= server.ejected_until() + TimeOf(*config_.ejection, ejections)) server.SetEjected(TimePoint(), 0);
}

std::optional<Duration> Upstream::Failed(size_t i, TimePoint now) {
  if (!config_.ejection.has_value()) return std::nullopt;
  Server& server = *servers_[i];
  if (server.CountFailure() < config_.ejection->consecutive_failures || server.ejected(now) || !MayEjectOneMore(now)) return std::nullopt;
  uint32_t in_a_row = server.ejections() + 1;
  Duration time = TimeOf(*config_.ejection, in_a_row);
  server.ForgetFailures();
  server.SetEjected(now + time, in_a_row);
  return time;
}

// Two workers that ask in the same moment may get the same answer, and the share be exceeded by one server.
bool Upstream::MayEjectOneMore(TimePoint now) const {
  size_t enabled = 0, ejected = 0;
  for (size_t i = 0; i < size(); ++i) {
    if (!terms_[i].enabled) continue;
    ++enabled;
    ejected += servers_[i]->ejected(now) ? 1 : 0;
  }
  return ejected < std::max<size_t>(1, enabled * config_.ejection->max_ejected_percent / 100);
}

}  // namespace ringmain
