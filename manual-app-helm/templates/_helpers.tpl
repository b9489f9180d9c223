{{/* The one place where the image's reference is made: by digest, never by tag. */}}
{{- define "manual-app.image" -}}
{{- $digest := toString .Values.image.digest -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" $digest) -}}
{{- fail (printf "image.digest is %q, not sha256:<64 hex>; hint: deploy or promote a build, tags are not accepted" $digest) -}}
{{- end -}}
{{ .Values.image.repository }}@{{ $digest }}
{{- end -}}

{{/* What a selector may use: never changes. Call with (list . NAME). */}}
{{- define "manual-app.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{/* Labels of everything. No version here: what a new build does not change stays in sync untouched. */}}
{{- define "manual-app.labels" -}}
{{ include "manual-app.selector" (list . .Chart.Name) }}
app.kubernetes.io/component: web
app.kubernetes.io/part-of: manual-app
{{- end -}}

{{/* Labels of the migration, which is no replica of the app and must not be counted as one. */}}
{{- define "manual-app.migrationLabels" -}}
{{ include "manual-app.selector" (list . (printf "%s-migrate" .Chart.Name)) }}
app.kubernetes.io/component: migration
app.kubernetes.io/part-of: manual-app
{{- end -}}

{{/* What the app's and the migration's pods share. */}}
{{- define "manual-app.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* A volume with one key of a Secret. Call with (list NAME SECRET KEY). */}}
{{- define "manual-app.secret" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      - key: {{ index . 2 }}
        path: {{ index . 2 }}
{{- end -}}

{{/* What the app's and the migration's containers share. */}}
{{- define "manual-app.container" -}}
image: {{ include "manual-app.image" . }}
imagePullPolicy: IfNotPresent
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{/* Where the database is; who asks, each container says for itself. */}}
{{- define "manual-app.database" -}}
- name: DATABASE_HOST
  value: {{ .Values.database.host | quote }}
- name: DATABASE_PORT
  value: {{ .Values.database.port | quote }}
- name: DATABASE_NAME
  value: {{ .Values.database.name | quote }}
{{- end -}}
