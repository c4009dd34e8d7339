// Two statuses of one ringmain, a while apart.
#pragma once

#include <nlohmann/json.hpp>

#include "top/sample.h"

namespace ringmain::top {

inline const Sample kBefore{Json::parse(R"({
  "version": "1.2.3", "pid": 4711, "state": "ready", "uptime_seconds": 3600, "configuration": {"last_reload_failed": false},
  "listeners": [
    {"name": "front", "state": "active", "addresses": ["127.0.0.1:8080", "unix:/run/f.sock"], "upstream": "back", "max_connections": 100, "connections_active": 7,
     "connections_total": 100, "bytes": {"to_server": 1000, "to_client": 5000},
     "closed": {"client_closed": 80, "no_server": 3, "access_denied": 10}},
    {"name": "old", "state": "draining", "addresses": [], "upstream": "back", "max_connections": null, "connections_active": 1,
     "connections_total": 50, "bytes": {"to_server": 0, "to_client": 0}, "closed": {"client_closed": 49}}],
  "upstreams": [
    {"name": "back", "balance": "round_robin", "queued": 0, "panic": false, "health_check": "tcp", "names": [], "servers": [
      {"address": "10.0.0.1:7001", "state": "active", "configured_state": "enabled", "weight": 1, "max_connections": null, "up": true, "ejected": false,
       "ejections_total": 0, "last_check_failure": null, "connections_active": 4, "connects_total": 60, "connect_failures": {"refused": 0, "timeout": 1}},
      {"address": "10.0.0.2:7001", "state": "active", "configured_state": "enabled", "weight": 2, "max_connections": 50, "up": true, "ejected": false,
       "ejections_total": 0, "last_check_failure": null, "connections_active": 3, "connects_total": 40, "connect_failures": {"refused": 0, "timeout": 0}}]}],
  "workers": [
    {"worker": 0, "state": "active", "sessions": 8, "completions_total": 1000, "enters_total": 500, "cq_overflows_total": 0, "receive_starvations_total": 0,
     "handed_over_total": 0, "accept_paused": false, "buffers": 64, "buffers_held": 0, "pipes": 4, "pipes_lent": 0, "spliced_bytes": 0,
     "relays": {"buffered": 16, "spliced": 0}, "buffer_bytes": 4194304}],
  "sessions": {"total": 8, "missing_workers": [], "list": [
    {"id": "0-1", "worker": 0, "listener": "front", "upstream": "back", "server": "10.0.0.1:7001", "client": "192.0.2.1:40000", "state": "established",
     "age_seconds": 10.0, "idle_seconds": 0.5, "to_server": {"sent_bytes": 100, "queued_bytes": 0}, "to_client": {"sent_bytes": 1000, "queued_bytes": 5}},
    {"id": "0-2", "worker": 0, "listener": "front", "upstream": "back", "server": null, "client": "192.0.2.2:40000", "state": "connecting",
     "age_seconds": 0.1, "idle_seconds": 0.1, "to_server": {"sent_bytes": 0, "queued_bytes": 0}, "to_client": {"sent_bytes": 0, "queued_bytes": 0}}]}
})"),
                            TimePoint(seconds(1000))};

// Two seconds later, with a change here and there.
inline Sample After() {
  Sample after{kBefore.status, kBefore.at + seconds(2)};
  Json& front = after.status["listeners"][0];
  front["connections_total"] = 110;
  front["connections_active"] = 12;
  front["bytes"] = {{"to_server", 3048}, {"to_client", 5000}};
  front["closed"] = {{"client_closed", 81}, {"no_server", 4}, {"access_denied", 13}};
  Json& servers = after.status["upstreams"][0]["servers"];
  servers[0]["connects_total"] = 70;
  servers[1]["up"] = false;
  servers[1]["connect_failures"]["refused"] = 4;
  servers[1]["last_check_failure"] = "connection refused";
  after.status["upstreams"][0]["queued"] = 3;
  Json& worker = after.status["workers"][0];
  worker["completions_total"] = 1600;
  worker["enters_total"] = 600;
  worker["accept_paused"] = true;
  Json& sessions = after.status["sessions"]["list"];
  sessions[0]["to_server"]["sent_bytes"] = 300;
  sessions[0]["to_client"]["sent_bytes"] = 3000;
  return after;
}

}  // namespace ringmain::top
