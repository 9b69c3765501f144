// The peer in Go: Chi, mattn's SQLite, golang-jwt, validator, Argon2id of x/crypto. Build with the libraries of Debian:
//
//	GOPATH=/usr/share/gocode GO111MODULE=off go build -o peer main.go checks.go && ./peer PORT FOLDER
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi"
	"github.com/go-playground/validator/v10"
	"github.com/golang-jwt/jwt"
	_ "github.com/mattn/go-sqlite3"
	"golang.org/x/crypto/argon2"
)

var (
	folder  string
	secret  = []byte("a secret of at least thirty-two bytes")
	reads   *sql.DB
	writes  *sql.DB
	writing sync.Mutex
	check   = validator.New()
	nameOf  = regexp.MustCompile(`^[a-z0-9]+(\.[a-z0-9]+)+$`)
	prepare = map[string]*sql.Stmt{}
)

type app struct {
	ID            string   `json:"id"`
	PackageID     string   `json:"package_id"`
	DeveloperID   string   `json:"developer_id"`
	Name          string   `json:"name"`
	Summary       string   `json:"summary"`
	Description   string   `json:"description"`
	Category      string   `json:"category"`
	Tags          []string `json:"tags"`
	Version       string   `json:"version"`
	VersionCode   int      `json:"version_code"`
	SizeBytes     int      `json:"size_bytes"`
	SHA256        string   `json:"sha256"`
	Downloads     int      `json:"downloads"`
	UpdatedAt     string   `json:"updated_at"`
	DeveloperName string   `json:"developer_name,omitempty"`
}

const columns = "a.id, a.package_id, a.developer_id, a.name, a.summary, a.description, a.category, a.tags, a.version, a.version_code, a.size_bytes, a.sha256, a.downloads, a.updated_at"

func scan(row interface{ Scan(...any) error }, developer bool) (app, error) {
	var a app
	var tags string
	to := []any{&a.ID, &a.PackageID, &a.DeveloperID, &a.Name, &a.Summary, &a.Description, &a.Category, &tags, &a.Version, &a.VersionCode, &a.SizeBytes, &a.SHA256, &a.Downloads, &a.UpdatedAt}
	if developer {
		to = append(to, &a.DeveloperName)
	}
	err := row.Scan(to...)
	if err == nil {
		err = json.Unmarshal([]byte(tags), &a.Tags)
	}
	return a, err
}

func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05Z") }

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"title": code, "status": status, "code": code})
}

func caller(r *http.Request) string {
	claims := jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), &claims,
		func(*jwt.Token) (any, error) { return secret, nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil || !claims.VerifyIssuer("peer", true) || claims.ExpiresAt == nil {
		return ""
	}
	return claims.Subject
}

func token(sub string) string {
	signed, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Issuer: "peer", Subject: sub, ExpiresAt: jwt.NewNumericDate(time.Now().Add(15 * time.Minute))}).SignedString(secret)
	return signed
}

var places = make(chan struct{}, 2)

func hash(password string, salt []byte) []byte {
	places <- struct{}{}
	defer func() { <-places }()
	return argon2.IDKey([]byte(password), salt, 2, 19456, 1, 32)
}

func verify(password, phc string) bool {
	parts := strings.Split(phc, "$")
	salt, _ := base64.RawStdEncoding.DecodeString(parts[4])
	want, _ := base64.RawStdEncoding.DecodeString(parts[5])
	return subtle.ConstantTimeCompare(hash(password, salt), want) == 1
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into) != nil || check.Struct(into) != nil {
		problem(w, 422, "invalid")
		return false
	}
	return true
}

func register(w http.ResponseWriter, r *http.Request) {
	var said struct {
		Email    string `validate:"min=3,max=254"`
		Password string `validate:"min=10,max=1024"`
		Name     string `validate:"min=1,max=100"`
	}
	if !read(w, r, &said) {
		return
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	phc := "$argon2id$v=19$m=19456,t=2,p=1$" + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(hash(said.Password, salt))
	id := uuid()
	writing.Lock()
	_, err := writes.Exec("INSERT INTO developers (id, email, name, password_hash, created_at) VALUES (?, ?, ?, ?, ?)", id, said.Email, said.Name, phc, now())
	writing.Unlock()
	if err != nil {
		problem(w, 409, "email_taken")
		return
	}
	answer(w, 201, map[string]string{"id": id, "access_token": token(id)})
}

func login(w http.ResponseWriter, r *http.Request) {
	var said struct{ Email, Password string }
	if !read(w, r, &said) {
		return
	}
	var id, phc string
	if prepare["login"].QueryRow(said.Email).Scan(&id, &phc) != nil || !verify(said.Password, phc) {
		problem(w, 401, "invalid_credentials")
		return
	}
	answer(w, 200, map[string]string{"access_token": token(id), "refresh_token": uuid() + uuid()})
}

func apps(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	if who == "" {
		problem(w, 401, "invalid_token")
		return
	}
	list(w, prepare["apps"], false, who)
}

func list(w http.ResponseWriter, statement *sql.Stmt, developer bool, values ...any) {
	rows, err := statement.Query(values...)
	if err != nil {
		problem(w, 500, err.Error())
		return
	}
	defer rows.Close()
	found := []app{}
	for rows.Next() {
		a, _ := scan(rows, developer)
		found = append(found, a)
	}
	answer(w, 200, map[string]any{"apps": found})
}

func one(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	if who == "" {
		problem(w, 401, "invalid_token")
		return
	}
	a, err := scan(prepare["app"].QueryRow(chi.URLParam(r, "app"), who), false)
	if err != nil {
		problem(w, 404, "not_found")
		return
	}
	answer(w, 200, a)
}

func newApp(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	if who == "" {
		problem(w, 401, "invalid_token")
		return
	}
	var said struct {
		PackageID   string   `json:"package_id" validate:"min=3,max=255"`
		Name        string   `json:"name" validate:"min=1,max=50"`
		Summary     string   `json:"summary" validate:"max=200"`
		Description string   `json:"description" validate:"max=10000"`
		Category    string   `json:"category" validate:"max=40"`
		Tags        []string `json:"tags" validate:"max=10,dive,min=1,max=40"`
	}
	if !read(w, r, &said) {
		return
	}
	if !nameOf.MatchString(said.PackageID) {
		problem(w, 422, "invalid")
		return
	}
	tags, _ := json.Marshal(said.Tags)
	id := uuid()
	writing.Lock()
	_, err := writes.Exec("INSERT INTO apps (id, package_id, developer_id, name, summary, description, category, tags, version, version_code, size_bytes, sha256, downloads, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, '', 0, ?)",
		id, said.PackageID, who, said.Name, said.Summary, said.Description, said.Category, string(tags), now())
	writing.Unlock()
	if err != nil {
		problem(w, 409, "package_id_taken")
		return
	}
	answer(w, 201, map[string]any{"id": id, "package_id": said.PackageID, "name": said.Name, "summary": said.Summary, "tags": said.Tags})
}

func upload(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	a, err := scan(prepare["app"].QueryRow(chi.URLParam(r, "app"), who), false)
	if who == "" || err != nil {
		problem(w, 404, "not_found")
		return
	}
	version, target := uuid(), folder+"/packages/"+a.ID
	os.MkdirAll(target, 0o755)
	file, err := os.Create(target + "/" + version + ".part")
	if err != nil {
		problem(w, 500, "internal")
		return
	}
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, digest), http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		problem(w, 413, "too_large")
		return
	}
	file.Sync()
	file.Close()
	var key []byte
	if prepare["key"].QueryRow(who).Scan(&key) != nil {
		problem(w, 422, "no_key")
		return
	}
	said, err := inspect(target+"/"+version+".part", a.PackageID, key)
	if err != nil {
		os.Remove(target + "/" + version + ".part")
		problem(w, 422, err.Error())
		return
	}
	os.Rename(target+"/"+version+".part", target+"/"+version+".mosis")
	if directory, err := os.Open(target); err == nil {
		directory.Sync()
		directory.Close()
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	writing.Lock()
	_, err = writes.Exec("INSERT INTO versions (id, app_id, version, version_code, size_bytes, sha256, state, created_at) VALUES (?, ?, ?, ?, ?, ?, 'ready', ?)", version, a.ID, said.Version, said.VersionCode, size, sum, now())
	writing.Unlock()
	if err != nil {
		problem(w, 409, "version_exists")
		return
	}
	answer(w, 201, map[string]any{"id": version, "size_bytes": size, "sha256": sum})
}

// publish makes an approved version the one that devices get.
func publish(w http.ResponseWriter, r *http.Request) {
	who := caller(r)
	a, err := scan(prepare["app"].QueryRow(chi.URLParam(r, "app"), who), false)
	if who == "" || err != nil {
		problem(w, 404, "not_found")
		return
	}
	writing.Lock()
	defer writing.Unlock()
	tx, err := writes.Begin()
	if err != nil {
		problem(w, 503, "busy")
		return
	}
	defer tx.Rollback()
	var id, sum string
	var code, size int
	version := chi.URLParam(r, "version")
	if tx.QueryRow("SELECT id, version_code, size_bytes, sha256 FROM versions WHERE app_id = ? AND version = ? AND state = 'approved' AND version_code > ?",
		a.ID, version, a.VersionCode).Scan(&id, &code, &size, &sum) != nil {
		problem(w, 409, "invalid_state")
		return
	}
	tx.Exec("UPDATE versions SET state = 'published' WHERE id = ?", id)
	tx.Exec("UPDATE apps SET version = ?, version_code = ?, size_bytes = ?, sha256 = ?, updated_at = ? WHERE id = ?", version, code, size, sum, now(), a.ID)
	if tx.Commit() != nil {
		problem(w, 503, "busy")
		return
	}
	answer(w, 200, map[string]any{"id": id, "version": version, "state": "published"})
}

var (
	counting sync.Mutex
	counted  = map[string]int{}
)

// small sends a small download and counts it; the counts are written once a second.
func small(w http.ResponseWriter, r *http.Request) {
	counting.Lock()
	counted[chi.URLParam(r, "app")]++
	counting.Unlock()
	http.ServeFile(w, r, folder+"/small.bin")
}

func writeCounts() {
	for range time.Tick(time.Second) {
		counting.Lock()
		counts := counted
		counted = map[string]int{}
		counting.Unlock()
		if len(counts) == 0 {
			continue
		}
		writing.Lock()
		if tx, err := writes.Begin(); err == nil {
			for name, count := range counts {
				tx.Exec("UPDATE apps SET downloads = downloads + ? WHERE package_id = ?", count, name)
			}
			tx.Commit()
		}
		writing.Unlock()
	}
}

func detail(w http.ResponseWriter, r *http.Request) {
	a, err := scan(prepare["detail"].QueryRow(chi.URLParam(r, "app")), true)
	if err != nil {
		problem(w, 404, "not_found")
		return
	}
	answer(w, 200, a)
}

func updates(w http.ResponseWriter, r *http.Request) {
	type update struct {
		PackageID   string `json:"package_id"`
		Version     string `json:"version"`
		VersionCode int    `json:"version_code"`
		SizeBytes   int    `json:"size_bytes"`
		SHA256      string `json:"sha256"`
	}
	found := []update{}
	for _, part := range strings.Split(r.URL.Query().Get("pkgs"), ",") {
		name, code, _ := strings.Cut(part, ":")
		number, _ := strconv.Atoi(code)
		var u update
		if prepare["latest"].QueryRow(name, number).Scan(&u.PackageID, &u.Version, &u.VersionCode, &u.SizeBytes, &u.SHA256) == nil {
			found = append(found, u)
		}
	}
	answer(w, 200, map[string]any{"updates": found})
}

func events(w http.ResponseWriter, r *http.Request) {
	var said struct {
		AppID     string `json:"app_id" validate:"min=3,max=255"`
		DeviceID  string `json:"device_id" validate:"len=64"`
		SessionID string `json:"session_id" validate:"min=1,max=64"`
		Events    []struct {
			Type      string          `json:"type" validate:"oneof=app_start app_stop app_crash lua_error perf_frame perf_memory perf_startup"`
			Timestamp string          `json:"timestamp" validate:"min=20,max=30"`
			Data      json.RawMessage `json:"data"`
		} `json:"events" validate:"max=100,dive"`
	}
	if !read(w, r, &said) {
		return
	}
	writing.Lock()
	defer writing.Unlock()
	tx, err := writes.Begin()
	if err != nil {
		problem(w, 503, "busy")
		return
	}
	statement := tx.Stmt(prepare["event"])
	for _, e := range said.Events {
		statement.Exec(said.AppID, said.DeviceID, said.SessionID, e.Type, e.Timestamp, string(bytes.TrimSpace(e.Data)))
	}
	if tx.Commit() != nil {
		problem(w, 503, "busy")
		return
	}
	answer(w, 202, map[string]int{"accepted": len(said.Events), "rejected": 0})
}

func main() {
	folder = os.Args[2]
	if len(os.Args) > 3 { // the router of the standard library, for a constant answer
		http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]string{"status": "ok"}) })
		panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
	}
	source := "file:" + folder + "/peers.db?_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1&_busy_timeout=5000"
	reads, _ = sql.Open("sqlite3", source)
	writes, _ = sql.Open("sqlite3", source)
	reads.SetMaxOpenConns(8)
	writes.SetMaxOpenConns(1)
	for name, text := range map[string]string{
		"login":  "SELECT id, password_hash FROM developers WHERE email = ?",
		"key":    "SELECT public_key FROM signing_keys WHERE developer_id = ?",
		"apps":   "SELECT " + columns + " FROM apps a WHERE a.developer_id = ? ORDER BY a.id DESC LIMIT 20",
		"app":    "SELECT " + columns + " FROM apps a WHERE a.package_id = ? AND a.developer_id = ?",
		"list":   "SELECT " + columns + ", d.name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.version_code > 0 ORDER BY a.name, a.id LIMIT 20",
		"detail": "SELECT " + columns + ", d.name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.package_id = ? AND a.version_code > 0",
		"latest": "SELECT package_id, version, version_code, size_bytes, sha256 FROM apps WHERE package_id = ? AND version_code > ?",
	} {
		statement, err := reads.Prepare(text)
		if err != nil {
			panic(err)
		}
		prepare[name] = statement
	}
	prepare["event"], _ = writes.Prepare("INSERT INTO events (app_id, device_id, session_id, type, timestamp, data) VALUES (?, ?, ?, ?, ?, ?)")
	r := chi.NewRouter()
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]string{"status": "ok"}) })
	r.Post("/auth/register", register)
	r.Post("/auth/login", login)
	r.Get("/apps", apps)
	r.Post("/apps", newApp)
	r.Get("/apps/{app}", one)
	r.Post("/apps/{app}/versions", upload)
	r.Post("/apps/{app}/versions/{version}/publish", publish)
	r.Get("/store/apps", func(w http.ResponseWriter, _ *http.Request) { list(w, prepare["list"], true) })
	r.Get("/store/apps/{app}", detail)
	r.Get("/store/updates", updates)
	r.Post("/telemetry/events", events)
	r.Get("/small/{app}", small)
	go writeCounts()
	r.Get("/download", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, folder+"/download.bin") })
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], r))
}
