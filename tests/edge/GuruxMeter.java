// A DLMS/COSEM meter of the Gurux library on 127.0.0.1: the peer of another maker that the agent's reader is tested against.
//
// Run as a process of its own by test_edge_dlms_gurux.py, with Gurux DLMS for Java (GPL-2.0) from the machine's Maven
// repository; neither is part of what is installed. Arguments: WRAPPER or HDLC; the address that it answers to as one number,
// as Gurux joins the two parts of HDLC's; NONE, LOW or HIGH_GMAC; then the password (LOW) or the two keys in hexadecimal
// digits, block cipher key and authentication key (HIGH_GMAC). Prints its port. A line on standard input,
// `OBIS VALUE SCALER UNIT`, sets a register; an empty VALUE (`-`) removes it. Not here: anything of the agent.

import gurux.dlms.GXDLMSConnectionEventArgs;
import gurux.dlms.ValueEventArgs;
import gurux.dlms.enums.Authentication;
import gurux.dlms.enums.DataType;
import gurux.dlms.enums.InterfaceType;
import gurux.dlms.enums.MethodAccessMode;
import gurux.dlms.enums.ObjectType;
import gurux.dlms.enums.Security;
import gurux.dlms.enums.SourceDiagnostic;
import gurux.dlms.enums.Unit;
import gurux.dlms.objects.GXDLMSAssociationLogicalName;
import gurux.dlms.objects.GXDLMSObject;
import gurux.dlms.objects.GXDLMSRegister;
import gurux.dlms.secure.GXDLMSSecureServer;
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;

public class GuruxMeter extends GXDLMSSecureServer {
    private static final Map<String, String[]> REGISTERS = new TreeMap<>();
    private final Authentication wanted;
    private final byte[] password;
    private final int address;

    GuruxMeter(InterfaceType framing, int address, Authentication wanted, byte[][] secrets) {
        super(true, framing);
        this.address = address;
        this.wanted = wanted;
        this.password = secrets.length == 1 ? secrets[0] : null;
        if (secrets.length == 2) {
            getCiphering().setSystemTitle("GRX01234".getBytes());
            getCiphering().setBlockCipherKey(secrets[0]);
            getCiphering().setAuthenticationKey(secrets[1]);
            getCiphering().setSecurity(Security.AUTHENTICATION_ENCRYPTION);
        }
        GXDLMSAssociationLogicalName association = new GXDLMSAssociationLogicalName();
        association.setMethodAccess(1, MethodAccessMode.ACCESS); // the reply to the challenge
        getItems().add(association);
        for (Map.Entry<String, String[]> entry : REGISTERS.entrySet()) {
            getItems().add(register(entry.getKey(), entry.getValue()));
        }
        initialize();
    }

    private static GXDLMSRegister register(String obis, String[] said) {
        GXDLMSRegister register = new GXDLMSRegister(obis);
        register.setScaler(Math.pow(10, Integer.parseInt(said[1])));
        register.setUnit(Unit.forValue(Integer.parseInt(said[2])));
        register.setDataType(2, DataType.UINT32);
        register.setValue(Long.parseLong(said[0]));
        return register;
    }

    @Override
    protected boolean isTarget(int serverAddress, int clientAddress) {
        return serverAddress == address;
    }

    @Override
    protected SourceDiagnostic validateAuthentication(Authentication authentication, byte[] given) {
        if (authentication != wanted) {
            return SourceDiagnostic.NOT_RECOGNISED;
        }
        if (authentication == Authentication.LOW && !Arrays.equals(given, password)) {
            return SourceDiagnostic.AUTHENTICATION_FAILURE;
        }
        return SourceDiagnostic.NONE;
    }

    @Override
    protected GXDLMSObject onFindObject(ObjectType type, int sn, String ln) {
        return null;
    }

    @Override
    public void read(ValueEventArgs[] args) {
        for (ValueEventArgs arg : args) {
            String[] said = REGISTERS.get(arg.getTarget().getLogicalName());
            if (said != null && arg.getIndex() == 2) {
                ((GXDLMSRegister) arg.getTarget()).setValue(Long.parseLong(said[0]));
            }
        }
    }

    @Override
    protected void write(ValueEventArgs[] args) {}

    @Override
    protected void action(ValueEventArgs[] args) {}

    @Override
    protected void connected(GXDLMSConnectionEventArgs info) {}

    @Override
    protected void invalidConnection(GXDLMSConnectionEventArgs info) {}

    @Override
    protected void disconnected(GXDLMSConnectionEventArgs info) {}

    /** Whether an HDLC frame is for this meter: Gurux takes those of its neighbours on a line into its own counts. */
    private boolean isAsked(byte[] frame) {
        int asked = 0;
        for (int place = 3; place < 7; place++) {
            asked = asked << 7 | (frame[place] & 0xFE) >> 1;
            if ((frame[place] & 1) == 1) {
                break;
            }
        }
        return asked == address || frame[0] != 0x7E;
    }

    private static void serve(Socket socket, GuruxMeter meter) throws Exception {
        InputStream in = socket.getInputStream();
        byte[] buffer = new byte[4096];
        for (int size = in.read(buffer); size > 0; size = in.read(buffer)) {
            if (meter.getSettings().getInterfaceType() == InterfaceType.HDLC && !meter.isAsked(buffer)) {
                continue;
            }
            byte[] reply = meter.handleRequest(Arrays.copyOf(buffer, size), null);
            if (reply != null) {
                socket.getOutputStream().write(reply);
            }
        }
    }

    private static void listen(BufferedReader commands) {
        try {
            for (String line = commands.readLine(); line != null; line = commands.readLine()) {
                set(line);
                System.out.println("set");
            }
        } catch (Exception error) {
            error.printStackTrace();
        }
        System.exit(0); // who started this is gone
    }

    private static void set(String line) {
        String[] words = line.split(" ");
        if (words[1].equals("-")) {
            REGISTERS.remove(words[0]);
        } else {
            REGISTERS.put(words[0], Arrays.copyOfRange(words, 1, 4));
        }
    }

    public static void main(String[] arguments) throws Exception {
        InterfaceType framing = InterfaceType.valueOf(arguments[0]);
        int address = Integer.parseInt(arguments[1]);
        Authentication wanted = Authentication.valueOf(arguments[2]);
        byte[][] secrets = new byte[arguments.length - 3][];
        for (int index = 0; index < secrets.length; index++) {
            String text = arguments[index + 3];
            secrets[index] = secrets.length == 1 ? text.getBytes() : java.util.HexFormat.of().parseHex(text);
        }
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
        Thread reader = new Thread(() -> listen(commands));
        reader.setDaemon(true);
        reader.start();
        System.out.println(server.getLocalPort());
        while (true) {
            try (Socket socket = server.accept()) {
                serve(socket, new GuruxMeter(framing, address, wanted, secrets));
            } catch (java.io.IOException gone) {
                System.err.println(gone);
            }
        }
    }
}
