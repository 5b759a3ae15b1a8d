// SPDX-License-Identifier: Apache-2.0
// Imports run one way: cli, lab -> agent | waypoint | controller -> mesh -> native.
module.exports = {
  forbidden: [
    { name: 'no-cycles', comment: 'a cycle means two files are one concept', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'native-is-the-bottom', severity: 'error', from: { path: '^native/' }, to: { path: '^(agent|waypoint|controller|mesh|cli|lab)/' } },
    { name: 'mesh-knows-no-process', severity: 'error', from: { path: '^mesh/' }, to: { path: '^(agent|waypoint|controller|cli|lab)/' } },
    { name: 'http2-stands-alone', comment: 'settings, accounts and memory are parameters: waypoints use it without HBONE', severity: 'error', from: { path: '^mesh/http2/' }, to: { path: '^(mesh/hbone|agent)/' } },
    { name: 'agent-stands-alone', severity: 'error', from: { path: '^agent/' }, to: { path: '^(waypoint|controller|cli|lab)/' } },
    { name: 'controller-stands-alone', severity: 'error', from: { path: '^controller/' }, to: { path: '^(agent|waypoint|cli|lab)/' } },
    { name: 'waypoint-stands-alone', severity: 'error', from: { path: '^waypoint/' }, to: { path: '^(agent|controller|cli|lab)/' } },
  ],
  options: { tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, tsConfig: { fileName: 'tsconfig.json' }, enhancedResolveOptions: { extensions: ['.ts', '.js'] } },
}
