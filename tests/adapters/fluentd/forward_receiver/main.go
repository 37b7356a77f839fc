// A Forward receiver that is not ours: the OpenTelemetry Collector's, alone, printing what it gets as OTLP JSON.
//
// Build it with `go build -o /somewhere/forward-receiver .` and name it in MIXER_FORWARD_RECEIVER; see
// test_fluentd_opentelemetry_receiver.py.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/fluentforwardreceiver"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

func main() {
	f := fluentforwardreceiver.NewFactory()
	cfg := f.CreateDefaultConfig().(*fluentforwardreceiver.Config)
	cfg.ListenAddress = os.Args[1]
	m := plog.JSONMarshaler{}
	next, err := consumer.NewLogs(func(_ context.Context, ld plog.Logs) error {
		b, err := m.MarshalLogs(ld)
		fmt.Println(string(b))
		return err
	})
	if err != nil {
		panic(err)
	}
	r, err := f.CreateLogs(context.Background(), receivertest.NewNopSettings(f.Type()), cfg, next)
	if err != nil {
		panic(err)
	}
	if err := r.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	select {}
}
