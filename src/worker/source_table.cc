#include "worker/source_table.h"

#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <thread>

#include "base/check.h"
#include "base/network.h"

namespace ringmain {
namespace {

// For the order of entries that are unused: milliseconds or so, never 0. After 52 days it begins again.
uint32_t TickOf(TimePoint now) { return std::max(static_cast<uint32_t>(now.time_since_epoch().count() >> 20), 1u); }

// SipHash with one round a word and three at the end (Aumasson and Bernstein, 2012): who does not know the secret cannot find keys that collide.
uint64_t Hash(uint64_t high, uint64_t low, const SourceTable::Secret& secret) {
  uint64_t a = secret[0] ^ 0x736f6d6570736575, b = secret[1] ^ 0x646f72616e646f6d;
  uint64_t c = secret[0] ^ 0x6c7967656e657261, d = secret[1] ^ 0x7465646279746573;
  auto round = [&] {
    a += b, c += d;
    b = std::rotl(b, 13) ^ a, d = std::rotl(d, 16) ^ c;
    a = std::rotl(a, 32);
    c += b, a += d;
    b = std::rotl(b, 17) ^ c, d = std::rotl(d, 21) ^ a;
    c = std::rotl(c, 32);
  };
  for (uint64_t word : {high, low, uint64_t{16} << 56}) {
    d ^= word;
    round();
    a ^= word;
  }
  c ^= 0xff;
  for (int i = 0; i < 3; ++i) round();
  return a ^ b ^ c ^ d;
}

uint64_t BigEndian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

class SourceTable::Hold {
 public:
  explicit Hold(Shard& shard) : shard_(shard) {
    constexpr uint32_t kSpinsPerYield = 64;
    for (uint32_t spins = 1; shard_.busy.test_and_set(std::memory_order_acquire); ++spins)
      if (spins % kSpinsPerYield == 0) std::this_thread::yield();
  }
  ~Hold() { shard_.busy.clear(std::memory_order_release); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  Shard& shard_;
};

SourceTable::Secret SourceTable::RandomSecret() {
  Secret secret;
  RINGMAIN_CHECK(getrandom(secret.data(), sizeof(secret), 0) == sizeof(secret));
  return secret;
}

void SourceTable::Unmap::operator()(Entry* entries) const { munmap(entries, bytes); }

// The kernel gives pages of a mapping when they are first written: what no source needs costs nothing.
SourceTable::SourceTable(uint64_t connections, Secret secret) : secret_(secret) {
  size_t count = std::bit_ceil(std::clamp<uint64_t>(2 * std::min<uint64_t>(connections, kMostEntries), kLeastEntries, kMostEntries));
  while (memory_ == nullptr) {
    size_t bytes = count * sizeof(Entry);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
      memory_ = std::unique_ptr<Entry[], Unmap>(static_cast<Entry*>(memory), Unmap{bytes});
    else if (count <= kLeastEntries)
      throw std::bad_alloc();
    else
      count /= 2;
  }
  entries_ = {memory_.get(), count};
  shards_ = std::vector<Shard>(std::clamp<size_t>(count / kEntriesPerShard, 1, kMostShards));
}

// ---- Workers ----

SourceTable::Verdict SourceTable::Admit(const SocketAddress& address, TimePoint now, uint32_t& entry) {
  entry = kNone;
  std::optional<Key> key = KeyOf(address, ipv6_prefix_.load(std::memory_order_relaxed));
  if (!key.has_value()) return Verdict::kAdmitted;
  Home home = HomeOf(*key);
  Hold hold(*home.shard);
  Entry* found = Obtain(home, *key, now);
  if (found == nullptr) {
    home.shard->no_entry.fetch_add(1, std::memory_order_relaxed);
    return Verdict::kNoEntry;
  }
  if (found->connections >= max_connections_.load(std::memory_order_relaxed)) return Verdict::kTooMany;
  Pace in_force = pace();
  if (in_force.on() && !TakeOne(in_force, now.time_since_epoch().count(), found->paid_until_ns)) return Verdict::kTooFast;
  entry = AddConnection(*home.shard, *found);
  return Verdict::kAdmitted;
}

uint32_t SourceTable::Count(const SocketAddress& address, TimePoint now) {
  std::optional<Key> key = KeyOf(address, ipv6_prefix_.load(std::memory_order_relaxed));
  if (!key.has_value()) return kNone;
  Home home = HomeOf(*key);
  Hold hold(*home.shard);
  Entry* found = Obtain(home, *key, now);
  return found != nullptr ? AddConnection(*home.shard, *found) : kNone;
}

void SourceTable::Release(uint32_t entry) {
  Shard& shard = ShardOf(entry);
  Hold hold(shard);
  RINGMAIN_CHECK(entries_[entry].connections > 0);
  if (--entries_[entry].connections == 0) shard.sources.fetch_sub(1, std::memory_order_relaxed);
}

void SourceTable::TakeBack(uint32_t entry) {
  {
    Hold hold(ShardOf(entry));
    entries_[entry].paid_until_ns -= interval_ns_.load(std::memory_order_relaxed);
  }
  Release(entry);
}

// ---- Entries ----

std::optional<SourceTable::Key> SourceTable::KeyOf(const SocketAddress& address, uint32_t ipv6_prefix) {
  HostBytes host = HostBytesOf(address);
  if (host.size == 0) return std::nullopt;
  if (host.size == 4) return Key{0, uint64_t{0xffff} << 32 | BigEndian(host.bytes.data()) >> 32};
  auto first_bits = [](uint64_t word, uint32_t bits) { return bits == 0 ? 0 : bits >= 64 ? word : word & ~uint64_t{0} << (64 - bits); };
  return Key{first_bits(BigEndian(host.bytes.data()), ipv6_prefix),
             first_bits(BigEndian(host.bytes.data() + 8), ipv6_prefix > 64 ? ipv6_prefix - 64 : 0)};
}

SourceTable::Home SourceTable::HomeOf(const Key& key) {
  uint64_t hash = Hash(key.high, key.low, secret_);
  size_t shard = (hash >> 58) % shards_.size();
  size_t sets = entries_.size() / shards_.size() / kWays;  // of a shard
  auto set = [&](uint64_t bits) { return entries_.subspan((shard * sets + bits % sets) * kWays, kWays); };
  return {&shards_[shard], {set(hash & 0x1fffffff), set(hash >> 29 & 0x1fffffff)}};
}

// The entry of the key, or one that becomes its; null: all that it could have are others' with connections. REQUIRES: the shard is held.
SourceTable::Entry* SourceTable::Obtain(const Home& home, const Key& key, TimePoint now) {
  uint32_t tick = TickOf(now);
  Entry* chosen = nullptr;
  uint32_t fewest = kWays;  // connected sources in the set of the chosen one
  uint32_t longest = 0;     // that it is unused
  for (std::span<Entry> set : home.sets) {
    Entry* idle = nullptr;
    uint32_t connected = 0, unused = 0;
    for (Entry& entry : set) {
      if (entry.used_at != 0 && entry.key == key) {
        entry.used_at = tick;
        return &entry;
      }
      uint32_t age = entry.used_at == 0 ? UINT32_MAX : tick - entry.used_at;
      if (entry.connections > 0) {
        ++connected;
      } else if (idle == nullptr || age > unused) {
        idle = &entry;
        unused = age;
      }
    }
    if (idle == nullptr || connected > fewest || (connected == fewest && chosen != nullptr && unused <= longest)) continue;
    chosen = idle;
    fewest = connected;
    longest = unused;
  }
  if (chosen != nullptr) *chosen = {key, 0, 0, tick};
  return chosen;
}

uint32_t SourceTable::AddConnection(Shard& shard, Entry& entry) {
  if (entry.connections++ == 0) shard.sources.fetch_add(1, std::memory_order_relaxed);
  return static_cast<uint32_t>(&entry - entries_.data());
}

// ---- The process thread ----

// Holds a shard for a few sets at a time.
template <typename Visit>
void SourceTable::ForEachUsed(Visit visit) {
  constexpr uint32_t kAtOnce = 8 * kWays;
  for (uint32_t first = 0; first < entries_.size(); first += kAtOnce) {
    Hold hold(ShardOf(first));
    for (Entry& entry : entries_.subspan(first, kAtOnce))
      if (entry.used_at != 0) visit(entry);
  }
}

void SourceTable::SetLimits(const Limits& next, TimePoint now) {
  Pace last = pace();
  max_connections_.store(next.max_connections, std::memory_order_relaxed);
  ipv6_prefix_.store(next.ipv6_prefix, std::memory_order_relaxed);
  if (next.pace == last) return;
  interval_ns_.store(next.pace.interval_ns, std::memory_order_relaxed);
  depth_ns_.store(next.pace.depth_ns, std::memory_order_relaxed);
  int64_t now_ns = now.time_since_epoch().count();
  ForEachUsed([&](Entry& entry) { entry.paid_until_ns = ChangePace(entry.paid_until_ns, last, next.pace, now_ns); });
}

std::string SourceTable::SavePace(TimePoint now, size_t most) {
  std::string bytes;
  if (!pace().on()) return bytes;
  ForEachUsed([&](const Entry& entry) {
    if (entry.paid_until_ns <= now.time_since_epoch().count() || most == 0) return;
    --most;
    bytes.append(reinterpret_cast<const char*>(&entry.key), sizeof(entry.key));
    bytes.append(reinterpret_cast<const char*>(&entry.paid_until_ns), sizeof(entry.paid_until_ns));
  });
  return bytes;
}

void SourceTable::RestorePace(std::string_view bytes, const Pace& saved, TimePoint now) {
  struct {
    Key key;
    int64_t paid_until_ns;
  } one;
  static_assert(sizeof(one) == 24);
  int64_t now_ns = now.time_since_epoch().count();
  for (; saved.on() && bytes.size() >= sizeof(one); bytes.remove_prefix(sizeof(one))) {
    std::memcpy(&one, bytes.data(), sizeof(one));
    Home home = HomeOf(one.key);
    Hold hold(*home.shard);
    if (Entry* entry = Obtain(home, one.key, now)) entry->paid_until_ns = ringmain::RestorePace(one.paid_until_ns, saved, pace(), now_ns);
  }
}

// ---- Any thread ----

SourceTable::Limits SourceTable::limits() const {
  return {max_connections_.load(std::memory_order_relaxed), pace(), ipv6_prefix_.load(std::memory_order_relaxed)};
}

uint64_t SourceTable::sources() const {
  uint64_t sum = 0;
  for (const Shard& shard : shards_) sum += shard.sources.load(std::memory_order_relaxed);
  return sum;
}

uint64_t SourceTable::no_entry() const {
  uint64_t sum = 0;
  for (const Shard& shard : shards_) sum += shard.no_entry.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace ringmain
