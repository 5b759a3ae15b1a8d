// SPDX-License-Identifier: Apache-2.0
// A controller with a collector: it gets the controller's metrics, the last of them when the controller stops.

import t from 'tap'
import { startCollector } from '../telemetry/collector.ts'
import { smallCluster } from './small-cluster.ts'

void t.test('a controller exports its metrics by OTLP, and once more when it stops', async (t) => {
  const cluster = await smallCluster(t)
  const collector = await startCollector(t)
  const controller = await cluster.controller({ otlpEndpoint: collector.endpoint })
  const page = await fetch(`http://127.0.0.1:${controller.healthPort}/metrics`)
  t.match(await page.text(), /ambit_otlp_dropped_total\{signal="metrics"\} 0/)
  await controller.stop()
  const sent = JSON.stringify(collector.got.map(({ message }) => message))
  t.match(sent, /"ambit_controller_root_not_after_seconds"/)
  t.match(sent, /"service.name","value":\{"stringValue":"ambit-controller"/)
  t.match(sent, /"k8s.pod.name","value":\{"stringValue":"replica"/)
})
