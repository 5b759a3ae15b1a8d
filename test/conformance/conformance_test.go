// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the conformance suite of the Gateway API, as upstream publishes it, against the cluster that KUBECONFIG names.
// What it is told of us comes by the suite's own flags from main.ts.
package conformance

import (
	"fmt"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	// One line a test as it ends: go test itself tells of none before all have.
	options.Hook = func(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
		result := "passed"
		if t.Failed() {
			result = "failed"
		} else if t.Skipped() {
			result = "skipped"
		}
		fmt.Printf("\nresult: %s %s\n", test.ShortName, result)
	}
	conformance.RunConformanceWithOptions(t, options)
}
