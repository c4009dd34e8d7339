#include <algorithm>

#include "worker/update.h"

namespace ringmain {
namespace {

// To a successor go at most so many sources: 1.5 MB. Who is left out has a full burst again.
constexpr size_t kMostSavedSources = 65536;

Pace PaceOf(const std::optional<RateConfig>& rate) { return rate.has_value() ? Pace::Of(rate->per_minute, rate->burst) : Pace(); }

// By Direction: the first is to the server.
void SetRates(Bandwidth::Side& side, uint64_t listener, uint64_t per_session, TimePoint now) {
  side.listener.Set(listener, now);
  side.per_session.store(per_session, std::memory_order_relaxed);
}

}  // namespace

// The table is made for all connections of the process: what the listener may have, a reload may raise.
void SharedListener::SetLimits(const ListenerConfig& config, uint32_t most, TimePoint now) {
  limit.set_max(config.max_connections.value_or(UINT32_MAX));
  accept_rate.Set(PaceOf(config.accept_rate), now);
  SetRates(bandwidth.sides[0], config.bandwidth.listener.to_server, config.bandwidth.per_session.to_server, now);
  SetRates(bandwidth.sides[1], config.bandwidth.listener.to_client, config.bandwidth.per_session.to_client, now);
  const PerSourceConfig& per_source = config.per_source;
  if (!per_source.on()) return;
  if (sources == nullptr) sources = std::make_shared<SourceTable>(most);
  sources->SetLimits({per_source.max_connections.value_or(UINT32_MAX), PaceOf(per_source.accept_rate), per_source.ipv6_prefix}, now);
}

void SharedListener::Freeze(FrozenListener& frozen, TimePoint now) const {
  frozen.accept_pace = accept_rate.pace();
  if (frozen.accept_pace.on()) frozen.accept_paid_until_ns = accept_rate.paid_until_ns();
  for (size_t i = 0; i < bandwidth.sides.size(); ++i)
    if (bandwidth.sides[i].listener.per_second() != 0) frozen.bandwidth_paid_until_ns[i] = bandwidth.sides[i].listener.paid_until_ns();
  if (sources == nullptr) return;
  frozen.source_pace = sources->limits().pace;
  frozen.sources = sources->SavePace(now, kMostSavedSources);
}

void SharedListener::GoOnFrom(const FrozenListener& frozen, TimePoint now) {
  if (frozen.accept_pace.on()) accept_rate.GoOnFrom(frozen.accept_pace, frozen.accept_paid_until_ns, now);
  for (size_t i = 0; i < bandwidth.sides.size(); ++i) bandwidth.sides[i].listener.GoOnFrom(frozen.bandwidth_paid_until_ns[i], now);
  if (sources != nullptr) sources->RestorePace(frozen.sources, frozen.source_pace, now);
}

}  // namespace ringmain
