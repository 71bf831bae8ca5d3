import java.util.TreeSet;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;

/**
 * Registers an instance by Curator's own ServiceDiscovery, prints every instance below the same path in a line each
 * (name, id, address, port, whether it is enabled), and ends, with its registration, once its input ends.
 *
 * Its words: hosts, path, and name, id, address and port of the instance.
 */
public class CuratorDiscovery {
    public static void main(String[] words) throws Exception {
        ServiceInstance<String> own = ServiceInstance.<String>builder()
            .name(words[2]).id(words[3]).address(words[4]).port(Integer.parseInt(words[5])).payload("From Curator")
            .build();
        try (CuratorFramework client = CuratorFrameworkFactory.newClient(words[0], new RetryOneTime(1000))) {
            client.start();
            try (ServiceDiscovery<String> discovery = ServiceDiscoveryBuilder.builder(String.class)
                    .client(client).basePath(words[1]).thisInstance(own).build()) {
                discovery.start();
                for (String name : new TreeSet<>(discovery.queryForNames())) {
                    for (ServiceInstance<String> found : discovery.queryForInstances(name)) {
                        System.out.println(String.join(" ", found.getName(), found.getId(), found.getAddress(),
                            String.valueOf(found.getPort()), String.valueOf(found.isEnabled())));
                    }
                }
                System.out.println();
                while (System.in.read() >= 0) {
                }
            }
        }
    }
}
