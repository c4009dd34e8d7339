// When a flow is bulk. Only for relay.cc, which asks after each message, and relay_direct.cc.
#pragma once

#include <cstdint>

namespace ringmain {

// loadtest/compare has a build for which everything is bulk, as a fixed choice to hold the adaptive one against.
#ifdef RINGMAIN_ALWAYS_SPLICE
inline constexpr bool kAlwaysBulk = true;
#else
inline constexpr bool kAlwaysBulk = false;
#endif

// So many receives in a row that filled their buffer are bulk.
inline constexpr uint8_t kBulkReceives = kAlwaysBulk ? 0 : 4;
// So many rounds in a row, each moving less than this, are not bulk any more.
inline constexpr uint32_t kSmallRound = kAlwaysBulk ? 0 : 16 << 10;
inline constexpr uint8_t kSmallRounds = 16;

}  // namespace ringmain
