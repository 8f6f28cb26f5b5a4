#!/bin/sh
# An actuator that knows nothing of the chain: it acts once on each decision of a contract, with mosquitto_sub and jq.
#
#   MQTT_HOST=127.0.0.1 MQTT_PORT=1883 MQTT_ID=DEVICE_ID MQTT_PASSWORD=… sh actuator.sh 'mote/1/decision/fire/#' last-decisions
#
# `mote device credentials NAME` prints host, port, id and password. A decision is named by Height, Index and Event, which ascend among those of
# its topic, Shard and QoS. It may come more than once, always under that name: what is not above the last one of its topic, shard and QoS is
# skipped. Those of two shards, which two gateways may publish, come in any order, and so do those of two QoS, which a broker may let overtake each
# other. The last names are in a file, a line for each topic, shard and QoS, written after the decision was acted on, so that a power cut repeats one
# and loses none.
set -eu
topic=$1 last=$2

# Put what moves the valve here.
act() {
  printf '%s.%s.%s %s\n' "$1" "$2" "$3" "$4"
}

# is_new STREAM HEIGHT INDEX EVENT
is_new() {
  awk -v of="$1" -v height="$2" -v index_="$3" -v event="$4" '
    $1 == of { old = height < $2 || height == $2 && (index_ < $3 || index_ == $3 && event <= $4) }
    END { exit old }' "$last"
}

# keep STREAM HEIGHT INDEX EVENT
keep() {
  { awk -v of="$1" '$1 != of' "$last"; echo "$*"; } > "$last.new"
  mv "$last.new" "$last"
}

[ -e "$last" ] || : > "$last"
stdbuf -oL mosquitto_sub -h "$MQTT_HOST" -p "$MQTT_PORT" -u "$MQTT_ID" -P "$MQTT_PASSWORD" -i "$MQTT_ID.actuator" -q 1 -t "$topic" -F %J |
  jq --unbuffered -r '.topic as $topic | .qos as $qos | .payload | "\(.Shard)/\($qos)/\($topic | @uri) \(.Height) \(.Index) \(.Event) \(.Decision)"' |
  while read -r stream height index event decision; do
    is_new "$stream" "$height" "$index" "$event" || continue
    act "$height" "$index" "$event" "$decision" < /dev/null
    keep "$stream" "$height" "$index" "$event"
  done
