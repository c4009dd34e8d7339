// GET /debug: how to look into this very process: the commands, with its process and thread ids filled in.
#pragma once

#include <string>
#include <vector>

namespace ringmain {

struct ThreadOfProcess {
  int id = 0;
  std::string name;
};
// Those of this process, by id; empty if /proc cannot be read.
std::vector<ThreadOfProcess> ListThreads();

// `probes`: the binary has trace probes. Pure.
std::string RenderDebugPage(int process, bool probes, const std::vector<ThreadOfProcess>& threads);

}  // namespace ringmain
