import software.amazon.awssdk.services.sts.StsClient;

/** Ask STS who we are, with what the SDK's default chain finds. */
public final class WhoAmI {
    public static void main(String[] arguments) {
        try (StsClient sts = StsClient.create()) {
            System.out.println(sts.getCallerIdentity().arn());
        }
    }
}
