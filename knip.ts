// SPDX-License-Identifier: Apache-2.0
// What is dead: files, exports and dependencies that nobody uses. The check runs it twice (scripts/check.sh): once over all, and
// with --production over the product alone, so that what only tests and benchmarks use is named, too.

import type { KnipConfig } from 'knip'

const isProduction = process.argv.includes('--production')

const config: KnipConfig = {
  // What is started by its path: programs, workers, benchmarks, tests and what tests start. With `!` it is the product.
  entry: [
    'cli/main.ts!',
    'cli/dashboard/page/main.ts!',
    'agent/main.ts!',
    'agent/proxy/worker/data-plane-worker.ts!',
    'controller/main.ts!',
    'waypoint/main.ts!',
    'native/netns-worker.ts!',
    'lab/cluster/attached-daemon.ts!',
    // Run by hand, too: CONTRIBUTING, "Against a true API server".
    'lab/kubernetes/real/api-server.ts!',
    'lab/kubernetes/real/gateway.ts!',
    'lab/demo/main.ts!',
    'lab/real/main.ts!',
    'lab/real/gateway.ts!',
    'lab/cluster/daemon.ts!',
    'lab/kubelet/main.ts!',
    'lab/samples/*.ts!',
    // The workload of the Gateway API's conformance suite: lab/kubelet/images.ts.
    'lab/samples/echo/{server,client}.ts!',
    'daemonset/image/main.ts!',
    'scripts/*.ts!',
    'bench/*.ts',
    'test/**/*.test.ts',
    'test/cluster/*.story.ts',
    'test/**/*-process.ts',
    'test/**/*-worker.ts',
    'test/**/programs/*.ts',
    'test/conformance/main.ts',
  ],
  project: ['**/*.{ts,js,cjs}!', '!mesh/proto/gen/**', '!bench/**!', '!test/**!'],
  // A type in the signature of something exported is part of that signature, imported by name or not. A function that the
  // product calls in its own file may be exported for its tests alone.
  ignoreExportsUsedInFile: isProduction || { interface: true, type: true },
  // Called by scripts/check.sh, which knip does not read.
  ignoreDependencies: ['dependency-cruiser'],
  // clang, ip, kubectl and the like come from the distribution: scripts/setup.sh.
  // Types cost nothing where they run: those that only tests name may stay in a folder's interface.
  exclude: isProduction ? ['binaries', 'types'] : ['binaries'],
}

export default config
