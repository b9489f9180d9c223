// Hello is another team's app: it greets, and says what it is in words of its own.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	greeting, err := os.ReadFile(os.Getenv("GREETING_FILE"))
	if err != nil {
		log.Fatalf("GREETING_FILE: %v", err)
	}
	about, err := json.Marshal(map[string]any{
		"environment": os.Getenv("WHERE"),
		"built":       map[string]string{"number": os.Getenv("BUILD"), "commit": os.Getenv("REVISION")},
	})
	if err != nil {
		log.Fatal(err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /up", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("GET /about", func(answer http.ResponseWriter, _ *http.Request) { answer.Write(about) })
	routes.HandleFunc("GET /{$}", func(answer http.ResponseWriter, _ *http.Request) { answer.Write(greeting) })

	server := &http.Server{Addr: ":8000", Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer done()
	go func() {
		<-stop.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
