#include <algorithm>

#include "base/hash.h"
#include "upstream/upstream.h"

namespace ringmain {
namespace {

// A server that starts slowly gets a tenth of its share at least, so that it is found out soon whether it works.
constexpr uint64_t kLeastShare = 1024 / 10;

}  // namespace

bool Candidates::Usable(uint16_t server) const {
  const Upstream::Terms& terms = upstream_.terms(server);
  if (!terms.enabled || terms.backup != backups_) return false;
  if (!ignore_health_ && !upstream_.server(server).InService(request_.now)) return false;
  return std::find(request_.tried.begin(), request_.tried.end(), server) == request_.tried.end();
}

bool Candidates::AnyUsable() const {
  for (size_t i = 0; i < upstream_.size(); ++i)
    if (Usable(static_cast<uint16_t>(i))) return true;
  return false;
}

bool Candidates::Has(uint16_t server) const {
  return Usable(server) && upstream_.server(server).active() < upstream_.terms(server).max_connections;
}

bool Candidates::Reserve(uint16_t server) const { return upstream_.server(server).TryReserveBelow(upstream_.terms(server).max_connections); }

bool Candidates::Reserve(uint16_t server, uint32_t seen) const {
  return seen < upstream_.terms(server).max_connections && upstream_.server(server).TryReserve(seen);
}

// In 1024ths of the whole.
uint32_t Candidates::Progress(uint16_t server) const {
  Duration ramp = upstream_.config().slow_start;
  if (ramp.count() == 0) return 1024;
  TimePoint started = upstream_.server(server).started_at();
  Duration running = request_.now - started;
  if (started == TimePoint() || running >= ramp) return 1024;
  return static_cast<uint32_t>(std::max<int64_t>(kLeastShare, running.count() / std::max<int64_t>(ramp.count() / 1024, 1)));
}

uint32_t Candidates::Share(uint16_t server) const { return upstream_.terms(server).weight * Progress(server); }

bool Candidates::TakesTurn(uint16_t server, uint64_t turn) const {
  uint32_t progress = Progress(server);
  return progress >= 1024 || Mix(turn) % 1024 < progress;
}

}  // namespace ringmain
