// HealthState: when consecutive check results make a server up or down.
#pragma once

#include <cstdint>
#include <optional>

namespace ringmain {

// Goes down after `fall` failures in a row and up after `rise` successes in a row; one opposite result
// starts the count again. Pure; thread-compatible.
class HealthState {
 public:
  enum class Flip { kUp, kDown };

  // REQUIRES: rise > 0, fall > 0.
  HealthState(uint32_t rise, uint32_t fall, bool up = true);
  // From the next result on. REQUIRES: as above.
  void SetThresholds(uint32_t rise, uint32_t fall);

  // The flip that this result causes, if any.
  std::optional<Flip> OnSuccess() { return OnResult(true); }
  std::optional<Flip> OnFailure() { return OnResult(false); }

  bool up() const { return up_; }
  // The last result was against the state, and more of the kind will flip it.
  bool contradicted() const { return against_ > 0; }

 private:
  std::optional<Flip> OnResult(bool success);

  uint32_t rise_;
  uint32_t fall_;
  bool up_;
  uint32_t against_ = 0;  // results in a row that contradict up_
};

}  // namespace ringmain
