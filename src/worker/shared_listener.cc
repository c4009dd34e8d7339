#include <algorithm>

#include "worker/update.h"

namespace ringmain {
namespace {

// To a successor go at most so many sources: 1.5 MB. Who is left out has a full burst again.
constexpr size_t kMostSavedSources = 65536;

Pace PaceOf(const std::optional<RateConfig>& rate) { return rate.has_value() ? Pace::Of(rate->per_minute, rate->burst) : Pace(); }

}  // namespace

// The table is made for all connections of the process: what the listener may have, a reload may raise.
void SharedListener::SetLimits(const ListenerConfig& config, uint32_t most, TimePoint now) {
  limit.set_max(config.max_connections.value_or(UINT32_MAX));
  accept_rate.Set(PaceOf(config.accept_rate), now);
  const PerSourceConfig& per_source = config.per_source;
  if (!per_source.on()) return;
  if (sources == nullptr) sources = std::make_shared<SourceTable>(most);
  sources->SetLimits({per_source.max_connections.value_or(UINT32_MAX), PaceOf(per_source.accept_rate), per_source.ipv6_prefix}, now);
}

void SharedListener::Freeze(FrozenListener& frozen, TimePoint now) const {
  frozen.accept_pace = accept_rate.pace();
  if (frozen.accept_pace.on()) frozen.accept_paid_until_ns = accept_rate.paid_until_ns();
  if (sources == nullptr) return;
  frozen.source_pace = sources->limits().pace;
  frozen.sources = sources->SavePace(now, kMostSavedSources);
}

void SharedListener::GoOnFrom(const FrozenListener& frozen, TimePoint now) {
  if (frozen.accept_pace.on()) accept_rate.GoOnFrom(frozen.accept_pace, frozen.accept_paid_until_ns, now);
  if (sources != nullptr) sources->RestorePace(frozen.sources, frozen.source_pace, now);
}

}  // namespace ringmain
