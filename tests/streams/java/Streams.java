import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.StreamsConfig;

/**
 * One instance of the application: java Streams NAME=VALUE..., settings of Kafka Streams and the topics' names.
 *
 * A line is 12 digits, a space, and an order line as JSON. `totals` gets one record for each line, under the product: how many lines
 * it has now, the sum of their quantities, and the number of this line. `joined` gets each line with its customer's country.
 */
public final class Streams {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int DIGITS = 12;

    public static void main(String[] arguments) {
        Map<String, String> asked = new HashMap<>();
        for (String argument : arguments) {
            asked.put(argument.substring(0, argument.indexOf('=')), argument.substring(argument.indexOf('=') + 1));
        }
        Properties settings = new Properties();
        settings.putAll(asked);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        KafkaStreams streams = new KafkaStreams(topology(asked), settings);
        streams.setUncaughtExceptionHandler(error -> {
            System.err.println("THREAD REPLACED: " + error);
            error.printStackTrace();
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> System.err.println("STATE " + before + " -> " + now));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Topology topology(Map<String, String> names) {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> lines = builder.stream(names.get("name.lines"));
        lines.map((customer, line) -> KeyValue.pair(order(line).get("StockCode").asText(), line), Named.as("by-product"))
                .groupByKey(Grouped.as("products"))
                .aggregate(() -> "", (product, line, total) -> added(total, line), Named.as("adding"), Materialized.as("totals"))
                .toStream()
                .to(names.get("name.totals"), Produced.as("told-totals"));
        KTable<String, String> customers = builder.table(names.get("name.customers"), Materialized.as("customers"));
        lines.join(customers, Streams::joined).to(names.get("name.joined"), Produced.as("told-joined"));
        return builder.build();
    }

    private static String added(String total, String line) {
        JsonNode before = parsed(total.isEmpty() ? "{\"lines\": 0, \"quantity\": 0}" : total);
        long lines = before.get("lines").asLong() + 1;
        long quantity = before.get("quantity").asLong() + order(line).get("Quantity").asLong();
        return JSON.createObjectNode().put("lines", lines).put("quantity", quantity).put("number", number(line)).toString();
    }

    private static String joined(String line, String country) {
        return JSON.createObjectNode().put("number", number(line)).put("country", country).toString();
    }

    private static long number(String line) {
        return Long.parseLong(line.substring(0, DIGITS));
    }

    private static JsonNode order(String line) {
        return parsed(line.substring(DIGITS + 1));
    }

    private static JsonNode parsed(String text) {
        try {
            return JSON.readTree(text);
        } catch (com.fasterxml.jackson.core.JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }
}
