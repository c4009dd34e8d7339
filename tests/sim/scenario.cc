#include "scenario.h"

#include <cerrno>
#include <memory>

namespace ringmain::sim {
namespace {

uint64_t SomeLength(Random& random) {
  switch (random.Below(5)) {
    case 0:
      return 0;
    case 1:
      return random.Between(1, 200);
    case 2:
      return random.Between(1, 8 << 10);
    default:
      return random.Between(1, 96 << 10);
  }
}

uint32_t SomeChunk(Random& random) {
  constexpr uint32_t kMost[] = {40, 1000, 5000, 64 << 10};
  return static_cast<uint32_t>(random.Between(1, kMost[random.Below(4)]));
}

Duration SomeTime(Random& random, uint64_t least_ms, uint64_t most_ms) {
  return milliseconds(random.Between(least_ms, most_ms));
}

PeerScript::End SomeEnd(Random& random, bool is_server) {
  using End = PeerScript::End;
  switch (random.Below(10)) {
    case 0:
    case 1:
      return End::kClose;
    case 2:
    case 3:
      return End::kReset;
    case 4:
      return End::kOpen;
    case 5:
    case 6:
      return is_server ? End::kFinAfterFin : End::kFin;
    default:
      return End::kFin;
  }
}

PeerScript SomePeer(Random& random, bool is_server, Duration longest_pause) {
  PeerScript script;
  script.bytes = SomeLength(random);
  // Tiny pieces make long runs; a long stream gets fewer of them.
  script.chunk = std::max<uint32_t>(SomeChunk(random), static_cast<uint32_t>(script.bytes / 200 + 1));
  script.read_chunk = std::max<uint32_t>(SomeChunk(random), 200);
  script.end = SomeEnd(random, is_server);
  if (random.OneIn(12)) script.stop_reading = SomeLength(random);
  if (random.OneIn(12)) script.reset_after = SomeLength(random);
  script.pace = static_cast<uint32_t>(random.OneIn(3) ? 1 : random.Between(1, 12));
  if (random.OneIn(4)) script.pause = longest_pause;
  script.receive_capacity = static_cast<uint32_t>(random.Between(1, 64 << 10));
  script.send_capacity = static_cast<uint32_t>(random.Between(100, random.OneIn(2) ? 3000 : 64 << 10));
  return script;
}

std::optional<int> SomeConnectResult(Random& random) {
  constexpr int kErrors[] = {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ECONNRESET, EADDRNOTAVAIL, EADDRNOTAVAIL};
  if (random.OneIn(3)) return std::nullopt;
  return -kErrors[random.Below(6)];
}

WorldOptions SomeWorld(Random& random) {
  WorldOptions world;
  uint64_t kernel = random.Below(4);
  world.abilities = {.multishot_receive = kernel != 0, .receive_credit = kernel > 1};
  world.buffers.ring_buffers = 1u << random.Below(5);
  if (random.OneIn(2)) world.buffers.max_ring_buffers = world.buffers.ring_buffers << random.Below(4);
  world.buffers.max_bytes = uint64_t{4096} * (world.buffers.ring_entries() + random.Below(random.OneIn(2) ? 4 : 40));
  world.high_water = static_cast<uint32_t>(random.Between(2 * 4096 + 1, 12 * 4096));
  world.servers = random.Between(1, 4);
  world.balance = random.OneIn(2) ? BalanceMethod::kRoundRobin : BalanceMethod::kLeastConnections;
  world.connect_tries = static_cast<uint32_t>(random.Between(1, 4));
  world.connect_timeout = SomeTime(random, 50, 3000);
  if (random.OneIn(2)) world.idle_timeout = SomeTime(random, 100, 4000);
  if (random.OneIn(2)) world.half_closed_timeout = SomeTime(random, 100, 4000);
  for (Duration& timeout : world.side_idle_timeouts)
    if (random.OneIn(4)) timeout = SomeTime(random, 10, 4000);
  if (random.OneIn(8)) world.max_lifetime = SomeTime(random, 10, 6000);
  if (random.OneIn(4)) world.connect_total_timeout = SomeTime(random, 20, 4000);
  return world;
}

// A kernel that splices, within limits of its own.
void AddPipes(Random& random, const std::shared_ptr<Random>& later, WorldOptions& world) {
  world.abilities.splice = true;
  for (uint64_t i = random.Below(4); i > 0; --i)
    world.pipes.push_back(static_cast<uint32_t>(random.Between(4 << 10, 64 << 10)));
  bool refuses = random.OneIn(3);
  world.pipe_refused = [=] { return refuses && later->OneIn(3); };
}

// Direct calls move less than they could, or nothing, and a turn has a budget that is soon used up.
void LimitDirectCalls(Random& random, const std::shared_ptr<Random>& later, WorldOptions& world) {
  if (random.OneIn(2)) world.direct_turn_bytes = static_cast<uint32_t>(random.Between(16 << 10, 128 << 10));
  bool limits = random.OneIn(2);
  world.direct_limit = [=] {
    constexpr int kNothing[] = {0, 0, -EINTR, -ENOBUFS};
    if (!limits || later->OneIn(2)) return INT_MAX;
    return later->OneIn(4) ? kNothing[later->Below(4)]
                           : static_cast<int>(later->Between(1, later->OneIn(2) ? 64 : 32 << 10));
  };
}

// Some of the addresses to connect from may be missing, now and then.
void AddSources(Random& random, const std::shared_ptr<Random>& later, WorldOptions& world) {
  world.sources = random.Between(1, 3);
  bool some_missing = random.OneIn(3);
  world.has_source = [=](const std::string&) { return !some_missing || !later->OneIn(3); };
}

// Fills whole buffers, and in between does not.
void MakeBulk(Random& random, PeerScript& script) {
  script.bytes = random.Between(64 << 10, 256 << 10);
  script.bulk = static_cast<uint32_t>(random.Between(24 << 10, 64 << 10));
  script.chunk = static_cast<uint32_t>(random.Between(script.bytes / 400 + 1, 3000));
  script.receive_capacity = static_cast<uint32_t>(random.Between(20 << 10, 64 << 10));
}

// Clients begin with a header, or with what is none, and servers are sent one.
void AddProxyProtocol(Random& random, WorldOptions& world) {
  constexpr ProxyProtocolAccept kAccept[] = {ProxyProtocolAccept::kOff, ProxyProtocolAccept::kOptional, ProxyProtocolAccept::kRequired,
                                             ProxyProtocolAccept::kRequired};
  constexpr ProxyProtocolSend kSend[] = {ProxyProtocolSend::kOff, ProxyProtocolSend::kV1, ProxyProtocolSend::kV2};
  world.proxy_protocol.accept = kAccept[random.Below(4)];
  world.proxy_protocol.timeout = std::chrono::duration_cast<milliseconds>(SomeTime(random, 50, 3000));
  if (random.OneIn(4) || world.proxy_protocol.accept == ProxyProtocolAccept::kOptional)
    world.proxy_protocol.from = {Network::Parse(random.OneIn(8) ? "192.0.2.0/24" : "10.0.0.0/24").value()};
  world.send_proxy_protocol = kSend[random.Below(3)];
}

void AddBandwidth(Random& random, WorldOptions& world) {
  for (WorldOptions::ByteRates& rates : world.bandwidth) {
    if (random.OneIn(2)) rates.listener = random.Between(4 << 10, random.OneIn(2) ? 64 << 10 : 4 << 20);
    if (random.OneIn(2)) rates.per_session = random.Between(2 << 10, random.OneIn(2) ? 64 << 10 : 4 << 20);
  }
}

std::string SomeHeader(Random& random) {
  ProxyHeader header{.version = static_cast<uint8_t>(random.Between(1, 2)), .local = random.OneIn(8)};
  if (!random.OneIn(8)) {
    bool ipv6 = random.OneIn(3);
    header.source = SocketAddress::Parse(ipv6 ? "[2001:db8::7]:1" : "192.0.2.7:1").value();
    header.destination = SocketAddress::Parse(ipv6 ? "[2001:db8::8]:443" : "198.51.100.8:443").value();
    header.source->set_port(static_cast<uint16_t>(random.Between(1, 65535)));
  }
  header.checksum = header.version == 2 && !header.local && random.OneIn(2);
  if (header.version == 2 && !header.local && random.OneIn(2)) {
    size_t length = random.OneIn(8) ? random.Below(4000) : random.Below(60);
    header.tlvs = {static_cast<char>(0xe0), static_cast<char>(length >> 8), static_cast<char>(length)};
    header.tlvs.append(length, 'v');
  }
  return ComposeProxyHeader(header);
}

void AddPrelude(Random& random, PeerScript& script) {
  if (random.OneIn(8)) return;
  script.prelude = SomeHeader(random);
  if (random.OneIn(8)) script.prelude[random.Below(script.prelude.size())] ^= 1;
  script.bytes += script.prelude.size();
  if (random.OneIn(8)) script.bytes = random.Below(script.prelude.size() + 2);
  if (random.OneIn(2)) script.chunk = static_cast<uint32_t>(random.Between(script.bytes / 200 + 1, script.bytes / 200 + 60));
}

// Many that have little to say, and not even a buffer for each.
void MakeCrowd(Random& random, Scenario& scenario) {
  BufferPool::Options& buffers = scenario.world.buffers;
  buffers.ring_buffers = 1u << random.Below(2);
  buffers.max_ring_buffers = random.OneIn(2) ? 2 * buffers.ring_buffers : 0;
  buffers.max_bytes = uint64_t{4096} * (buffers.ring_entries() + random.Below(3));
  for (uint64_t i = random.Between(5, 25); i > 0; --i) {
    PeerScript script = SomePeer(random, /*is_server=*/false, milliseconds(50));
    script.bytes = random.Below(100);
    script.stop_reading = random.OneIn(2) ? random.Below(3000) : PeerScript::kNever;
    scenario.driver.clients.push_back(script);
  }
}

}  // namespace

Scenario MakeScenario(uint64_t seed) {
  Random random(seed);
  Scenario scenario;
  scenario.world = SomeWorld(random);
  Duration longest_pause = SomeTime(random, 1, 3000);

  // What happens later in the run draws from generators of its own, kept alive by the functions that use them.
  auto later = std::make_shared<Random>(random.Next());
  bool bulk = random.OneIn(2);
  if (bulk && !random.OneIn(4)) AddPipes(random, later, scenario.world);
  if (bulk) LimitDirectCalls(random, later, scenario.world);
  auto some_peer = [=](Random& source, bool is_server) {
    PeerScript script = SomePeer(source, is_server, longest_pause);
    if (bulk && source.OneIn(2)) MakeBulk(source, script);
    // Who takes it all, and at once.
    if (bulk && source.OneIn(2)) script.send_capacity = script.read_chunk = 64 << 10;
    return script;
  };
  uint64_t refusing = random.Below(4);  // one connect in so many fails, but for zero
  scenario.world.server_script = [=](size_t) {
    PeerScript script = some_peer(*later, /*is_server=*/true);
    if (refusing > 0 && later->OneIn(refusing + 1)) script.connect_result = SomeConnectResult(*later);
    script.is_the_proxy = refusing > 0 && later->OneIn(16);
    return script;
  };
  bool few_files = random.OneIn(8);
  scenario.world.open_result = [=] {
    if (!few_files || !later->OneIn(3)) return 0;
    return later->OneIn(4) ? -EAFNOSUPPORT : -EMFILE;
  };

  if (random.OneIn(8)) scenario.world.keepalive = seconds(0);
  if (random.OneIn(2)) AddSources(random, later, scenario.world);

  DriverOptions& driver = scenario.driver;
  driver.seed = random.Next();
  for (uint64_t i = random.Between(1, random.OneIn(2) ? 3 : 12); i > 0; --i)
    driver.clients.push_back(some_peer(random, /*is_server=*/false));
  if (random.OneIn(8)) MakeCrowd(random, scenario);
  if (random.OneIn(6)) AddBandwidth(random, scenario.world);
  bool proxied = random.OneIn(3);
  if (proxied) AddProxyProtocol(random, scenario.world);
  if (scenario.world.proxy_protocol.accept != ProxyProtocolAccept::kOff)
    for (PeerScript& script : driver.clients) AddPrelude(random, script);
  driver.turn_weight = static_cast<uint32_t>(random.Between(1, 30));
  driver.kernel_weight = static_cast<uint32_t>(random.Between(1, 20));
  driver.peer_weight = static_cast<uint32_t>(random.Between(1, 8));
  driver.time_weight = static_cast<uint32_t>(random.OneIn(4) ? 20 : 1);
  driver.short_operations = random.OneIn(3);
  driver.early_ends = random.OneIn(3);
  driver.missed_ends = random.OneIn(3);
  driver.send_refusals = random.OneIn(6);
  driver.spurious_polls = random.OneIn(3);
  driver.health_flips = random.OneIn(6);
  if (random.OneIn(4)) driver.close_all_at = random.Below(3000);
  if (random.OneIn(8)) driver.close_idle_at = random.Below(3000);
  if (random.OneIn(2)) driver.freeze_one_in = static_cast<uint32_t>(random.Between(5, 500));
  if (random.OneIn(2)) {
    scenario.world.access_log.emplace();
    scenario.world.access_log->at_start = random.OneIn(2);
    if (random.OneIn(2)) scenario.world.access_log->every = SomeTime(random, 1, 3000);
  }
  scenario.world.pool_grows = driver.freeze_one_in > 0 || proxied;
  return scenario;
}

std::string RunScenario(uint64_t seed, Coverage& coverage) {
  auto run = [&](bool tracing) {
    auto report = std::make_unique<Report>(tracing);
    Scenario scenario = MakeScenario(seed);
    auto world = std::make_unique<World>(scenario.world, *report);
    Driver driver(*world, scenario.driver);
    driver.Run();
    coverage.freezes += driver.freezes();
    for (const SimSocket& socket : world->io().sockets()) {
      coverage.splice_begins += socket.splice_begins;
      coverage.splice_ends += socket.splice_ends;
      coverage.copies += socket.copies;
      coverage.self_connects += socket.connected && socket.script.is_the_proxy ? 1 : 0;
    }
    for (size_t server = 0; server < scenario.world.servers; ++server) coverage.replaced += world->io().replaced(server);
    for (const SimSession& session : world->io().sessions()) {
      coverage.source_changes += session.established && session.changed_source ? 1 : 0;
      coverage.headers_read += session.established && session.client->stripped > 0 ? 1 : 0;
      bool whole = session.established && !session.server->lead.empty() && session.server->sent_handled >= session.server->lead.size();
      coverage.headers_sent += whole ? 1 : 0;
    }
    for (const Counter& waits : world->listener_cells().bandwidth_waits) coverage.bandwidth_waits += waits.value();
    for (CloseReason reason : {CloseReason::kProxyProtocol, CloseReason::kProxyProtocolTimeout}) coverage.headers_refused += world->closed(reason);
    // Sessions that are left cannot be destroyed.
    if (report->failed()) static_cast<void>(world.release());
    return report;
  };
  std::unique_ptr<Report> report = run(/*tracing=*/false);
  if (!report->failed()) return "";
  auto traced = run(/*tracing=*/true);
  return absl::StrCat(traced->failure(), "\n", traced->TraceText());
}

}  // namespace ringmain::sim
