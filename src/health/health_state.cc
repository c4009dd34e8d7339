#include "health/health_state.h"

#include "base/check.h"

namespace ringmain {

HealthState::HealthState(uint32_t rise, uint32_t fall, bool up) : up_(up) { SetThresholds(rise, fall); }

void HealthState::SetThresholds(uint32_t rise, uint32_t fall) {
  RINGMAIN_CHECK(rise > 0 && fall > 0);
  rise_ = rise;
  fall_ = fall;
}

std::optional<HealthState::Flip> HealthState::OnResult(bool success) {
  if (success == up_) {
    against_ = 0;
    return std::nullopt;
  }
  if (++against_ < (up_ ? fall_ : rise_)) return std::nullopt;
  up_ = success;
  against_ = 0;
  return up_ ? Flip::kUp : Flip::kDown;
}

}  // namespace ringmain
