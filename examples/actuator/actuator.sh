#!/bin/sh
# An actuator that knows nothing of the chain: it acts once on each decision of a contract, with mosquitto_sub and jq.
#
#   MQTT_HOST=127.0.0.1 MQTT_PORT=1883 MQTT_ID=DEVICE_ID MQTT_PASSWORD=… sh actuator.sh 'mote/1/decision/fire/#' last-decision
#
# `mote device credentials NAME` prints host, port, id and password. A decision is named by Height, Index and Event, which ascend. It may come
# more than once, always under that name: what is not above the last one is skipped. The name of the last one is in a file, written after the
# decision was acted on, so that a power cut repeats one and loses none. Topics of contracts that do not know of each other want an actuator
# each: the file is one line.
set -eu
topic=$1 last=$2

# Put what moves the valve here.
act() {
  printf '%s.%s.%s %s\n' "$1" "$2" "$3" "$4"
}

[ -e "$last" ] || echo '-1 0 0' > "$last"
read -r last_height last_index last_event < "$last"
stdbuf -oL mosquitto_sub -h "$MQTT_HOST" -p "$MQTT_PORT" -u "$MQTT_ID" -P "$MQTT_PASSWORD" -i "$MQTT_ID.actuator" -q 1 -t "$topic" |
  jq --unbuffered -r '"\(.Height) \(.Index) \(.Event) \(.Decision)"' |
  while read -r height index event decision; do
    [ "$height" -gt "$last_height" ] ||
      { [ "$height" -eq "$last_height" ] && [ "$index" -gt "$last_index" ]; } ||
      { [ "$height" -eq "$last_height" ] && [ "$index" -eq "$last_index" ] && [ "$event" -gt "$last_event" ]; } ||
      continue
    act "$height" "$index" "$event" "$decision"
    echo "$height $index $event" > "$last.new"
    mv "$last.new" "$last"
    last_height=$height last_index=$index last_event=$event
  done
