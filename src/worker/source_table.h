// SourceTable: how many connections each source address has, and how fast new ones come from it.
//
// One per listener that is to limit sources, shared by all workers. Its memory is chosen at construction and never grows, however many
// addresses appear. A source has an entry from its first connection on. An entry with connections is never given away, so that what it counts is
// exact; one without is kept for its rate until another source needs the place: the longest unused goes first. If there is no place at all,
// since every entry that a source could have belongs to others with connections, the new connection is refused: who is there already stays, and
// nobody passes uncounted. The table is made large enough for that not to happen before the connection limit is reached.
//
// Each source may be in either of two sets of eight entries, that with fewer connected sources (so sets fill evenly: at half the entries in use
// none overflows). Where they are follows from a hash with a random secret: nobody can choose addresses that fall together.
//
// Entries are guarded by a flag per shard. A worker may have to spin for it: another holds it while it looks at 16 entries in eight cache lines,
// a tenth of a microsecond, once per connection, and it waits for nothing inside; only if the kernel takes the processor away from it just then
// does it last longer, so whoever spins for long yields. An entry is too large for an atomic, and to find, make and recycle one without a flag
// would take more shared writes than the flag.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/socket_address.h"
#include "base/token_bucket.h"

namespace ringmain {

// Thread-safe.
class SourceTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;  // no entry
  static constexpr size_t kLeastEntries = 4096;
  static constexpr size_t kMostEntries = size_t{1} << 21;  // 64 MiB

  struct Limits {
    uint32_t max_connections = UINT32_MAX;
    Pace pace;
    uint32_t ipv6_prefix = 64;  // 1 to 128
    bool operator==(const Limits&) const = default;
  };
  enum class Verdict : uint8_t {
    kAdmitted,
    kTooMany,  // it has max_connections
    kTooFast,  // its pace
    kNoEntry,  // there is no place to count it
  };
  using Secret = std::array<uint64_t, 2>;
  static Secret RandomSecret();

  // Holds twice as many sources as there may be connections, within the bounds above; less if there is no memory for so many.
  explicit SourceTable(uint64_t connections, Secret secret = RandomSecret());
  SourceTable(const SourceTable&) = delete;
  SourceTable& operator=(const SourceTable&) = delete;

  // ---- Workers ----

  // Counts a connection of the address if it may come, and sets `entry`: whoever has it owes the Release. What is no IP address is not
  // limited: admitted, and `entry` is kNone.
  Verdict Admit(const SocketAddress& address, TimePoint now, uint32_t& entry);
  // The same for a connection that is there already, though it may be one too many; kNone if it cannot be counted.
  uint32_t Count(const SocketAddress& address, TimePoint now);
  // The connection has ended. REQUIRES: `entry` came from Admit or Count.
  void Release(uint32_t entry);
  // As if it had not been admitted: it was refused for another reason.
  void TakeBack(uint32_t entry);

  // ---- The process thread ----

  // From now on; connections that are counted stay so, and by the prefix that they came under.
  void SetLimits(const Limits& limits, TimePoint now);
  // For another process: the sources whose pace does not allow a full burst at `now`, `most` at most; plain bytes.
  std::string SavePace(TimePoint now, size_t most);
  // What another process saved under the pace `saved`, as far as it is understood. REQUIRES: no worker uses the table.
  void RestorePace(std::string_view bytes, const Pace& saved, TimePoint now);

  // ---- Any thread ----

  Limits limits() const;
  size_t entries() const { return entries_.size(); }
  uint64_t sources() const;   // with connections
  uint64_t no_entry() const;  // connections refused since there was no place to count them

 private:
  static constexpr uint32_t kWays = 8;  // of a set
  static constexpr size_t kEntriesPerShard = 4096;
  static constexpr size_t kMostShards = 64;

  // IPv4 as IPv4-mapped IPv6 (RFC 4291); IPv6 cut to the prefix.
  struct Key {
    uint64_t high = 0;
    uint64_t low = 0;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    int64_t paid_until_ns;  // TakeOne
    uint32_t connections;
    uint32_t used_at;  // TickOf; 0: it was never used
  };
  static_assert(sizeof(Entry) == 32);
  struct alignas(64) Shard {
    std::atomic_flag busy;
    std::atomic<uint32_t> sources{0};   // written under the flag
    std::atomic<uint64_t> no_entry{0};  // the same
  };
  class Hold;
  struct Unmap {
    size_t bytes;
    void operator()(Entry* entries) const;
  };
  // The two sets that a key may be in, and their shard.
  struct Home {
    Shard* shard = nullptr;
    std::array<std::span<Entry>, 2> sets;
  };

  static std::optional<Key> KeyOf(const SocketAddress& address, uint32_t ipv6_prefix);
  Home HomeOf(const Key& key);
  Entry* Obtain(const Home& home, const Key& key, TimePoint now);
  uint32_t AddConnection(Shard& shard, Entry& entry);
  Shard& ShardOf(uint32_t entry) { return shards_[entry / (entries_.size() / shards_.size())]; }
  template <typename Visit>
  void ForEachUsed(Visit visit);
  Pace pace() const { return {interval_ns_.load(std::memory_order_relaxed), depth_ns_.load(std::memory_order_relaxed)}; }

  const Secret secret_;
  std::unique_ptr<Entry[], Unmap> memory_;
  std::span<Entry> entries_;  // a power of two; each shard has its part
  std::vector<Shard> shards_;

  // Written by the process thread.
  std::atomic<uint32_t> max_connections_{UINT32_MAX};
  std::atomic<uint32_t> ipv6_prefix_{64};
  std::atomic<int64_t> interval_ns_{0};
  std::atomic<int64_t> depth_ns_{0};
};

}  // namespace ringmain
